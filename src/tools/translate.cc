// `neuroglot translate`: text in, text out, line by line.
#include <algorithm>
#include <optional>

#include "base/error.h"
#include "text/utf8.h"
#include "tools/lines.h"
#include "tools/opened.h"
#include "tools/records.h"
#include "translate/translator.h"

namespace ng {
namespace {

constexpr size_t kLongestLine = size_t{16} << 20;

// One line of input on its way to its line of output.
struct Record {
  Line line;
  std::string id;  // --jsonl: its JSON, as it came; empty: none
  std::string error;
  std::string ending;  // a final CR
  size_t request = 0;  // in the window's requests, when there is no error
};

// The number that is the member "id" of a valid JSON object, as it is written there.
std::string number_of_id(std::string_view object) {
  int depth = 0;
  bool is_id = false;  // between that key and the comma behind its value
  for (size_t at = 0; at < object.size(); ++at) {
    const char c = object[at];
    if (c == '"') {
      const size_t begin = at++;
      while (object[at] != '"') at += object[at] == '\\' ? 2 : 1;
      const std::string_view text = object.substr(begin, at + 1 - begin);
      is_id = depth == 1 && text.size() <= 14 && Json::parse(text) == "id";  // perhaps "\u0069d"
    } else if (is_id && (c == '-' || (c >= '0' && c <= '9'))) {
      return std::string(object.substr(at, object.find_first_of(",} \t\r\n", at) - at));
    }
    depth += (c == '{' || c == '[') - (c == '}' || c == ']');
    is_id = is_id && c != ',';
  }
  NG_CHECK(false, "{}", shown(object));
}

class Translate {
 public:
  explicit Translate(const Options& options);
  int run();

 private:
  Record read(Line line, std::vector<TextRequest>& requests) const;
  TextRequest read_json(Record& record) const;
  void measure(const std::vector<TextRequest>& requests, std::vector<Translated>& results);
  void write(const Record& record, const Translated& result);
  std::string plain(const Record& record, const Translated& result) const;
  std::string json(const Record& record, const Translated& result) const;

  const Options& options_;
  std::unique_ptr<Opened> opened_;
  Tokenizer tokenizer_;
  std::unique_ptr<Translator> translator_;
  TranslateOptions translate_;
  LineWriter writer_;
  Stats stats_;
  FailedRecords failed_{"lines"};
};

Translate::Translate(const Options& options)
    : options_(options),
      opened_(open_for(options)),
      tokenizer_(open_tokenizer(opened_->bundle)),
      writer_(options.output) {
  check(options.split == "none", "--split {}: none is the only way so far", shown(options.split));
  check(options.jsonl || (!options.from.empty() && !options.to.empty()),
        "translate needs --from and --to, such as --from eng_Latn --to fra_Latn");
  if (!options.from.empty()) tokenizer_.language_id(options.from);
  if (!options.to.empty()) tokenizer_.language_id(options.to);
  GenerationOptions search = opened_->defaults;
  if (options.beam > 0) search.num_beams = static_cast<int>(options.beam);
  search.num_return_sequences = static_cast<int>(std::max<int64_t>(options.n_best, 1));
  check(search.num_return_sequences <= search.num_beams,
        "--n-best {} needs at least as many beams, there are {}: add --beam {}", options.n_best,
        search.num_beams, options.n_best);
  translate_.max_source_tokens = options.max_source_tokens;
  const int64_t longest = opened_->session().sizes().source;  // 0: any
  if (longest > 0 && options.long_sources == "cut")
    translate_.max_source_tokens = std::min(options.max_source_tokens, longest);
  translate_.n_best = search.num_return_sequences;
  translate_.batch.sentences = options.batch_sentences();
  translator_ = std::make_unique<Translator>(*opened_->replicas, tokenizer_, search);
  stats_.load_seconds = opened_->load_seconds;
  stats_.tokenize_seconds.resize(static_cast<size_t>(options.repeat));
  stats_.generate_seconds.resize(static_cast<size_t>(options.repeat));
}

// {"id"?, "text", "from"?, "to"?}
TextRequest Translate::read_json(Record& record) const {
  constexpr std::string_view what = "request";
  std::string& text = record.line.text;
  if (!is_valid_utf8(text)) {
    warn(options_, record.line.number, "invalid UTF-8 is read as U+FFFD");
    text = repair_utf8(text);
  }
  std::replace(text.begin(), text.end(), '\0', ' ');
  const Json json = parse_json(text, what);
  check(json.is_object(), "{}: a JSON object is needed", what);
  if (json.contains("id")) {  // an error has it, too
    record.id = json["id"].is_number() ? number_of_id(text) : json["id"].dump();
  }
  for (const auto& [key, value] : json.items()) {
    check(key == "id" || key == "text" || key == "from" || key == "to", "{}: unknown field \"{}\"",
          what, shown(key));
  }
  check(json.contains("text"), "{}: \"text\" is missing", what);
  TextRequest request{json_string(json, "text", "", what),
                      json_string(json, "from", options_.from, what),
                      json_string(json, "to", options_.to, what)};
  check(!request.from.empty() && !request.to.empty(),
        "{}: \"from\" and \"to\" are needed, here or as --from and --to", what);
  return request;
}

Record Translate::read(Line line, std::vector<TextRequest>& requests) const {
  Record record;
  record.line = std::move(line);
  try {
    check(!record.line.too_long, "is longer than {} MiB: split it", kLongestLine >> 20);
    TextRequest request;
    if (options_.jsonl) {
      request = read_json(record);
    } else {
      std::string& text = record.line.text;
      if (!text.empty() && text.back() == '\r') {
        record.ending = "\r";
        text.pop_back();
      }
      request = {text, options_.from, options_.to};
    }
    record.request = requests.size();
    requests.push_back(std::move(request));
  } catch (const Error& error) {
    if (error.kind() != Error::Kind::User) throw;
    record.error = error.what();
  }
  return record;
}

void Translate::measure(const std::vector<TextRequest>& requests,
                        std::vector<Translated>& results) {
  for (int64_t run = -options_.warmup; run < options_.repeat; ++run) {
    results = translator_->translate(requests, translate_);
    if (run < 0) continue;
    const Translator::Measured& measured = translator_->measured();
    stats_.tokenize_seconds[static_cast<size_t>(run)] += measured.tokenize_seconds;
    stats_.generate_seconds[static_cast<size_t>(run)] += measured.generate_seconds;
  }
  stats_.input_tokens += translator_->measured().input_tokens;
  stats_.output_tokens += translator_->measured().output_tokens;
}

std::string Translate::plain(const Record& record, const Translated& result) const {
  std::string out;
  for (const Translation& translation : result.translations) {
    if (options_.n_best > 0) {
      out +=
          fmt::format("{} ||| {} ||| {}", record.line.number, translation.text, translation.score);
    } else {
      if (options_.scores) out += fmt::format("{}\t", translation.score);
      out += translation.text;
    }
    out += record.ending + "\n";
  }
  return out.empty() ? record.ending + "\n" : out;  // a line that failed is an empty line
}

std::string Translate::json(const Record& record, const Translated& result) const {
  Json out = Json::object();
  if (!result.error.empty()) {
    out["error"] = {{"code", "invalid_request"}, {"message", result.error}};
  } else {
    out["translations"] = Json::array();
    for (const Translation& translation : result.translations) {
      out["translations"].push_back({{"text", translation.text},
                                     {"score", translation.score},
                                     {"finish_reason", name(translation.reason)}});
    }
  }
  const std::string text = out.dump(-1, ' ', false, Json::error_handler_t::replace);
  const std::string id = record.id.empty() ? "" : fmt::format("\"id\":{},", record.id);
  return "{" + id + text.substr(1) + "\n";
}

void Translate::write(const Record& record, const Translated& result) {
  for (const std::string& warning : result.warnings) warn(options_, record.line.number, warning);
  if (!result.error.empty()) failed_.add(record.line.number, result.error);
  writer_.write(options_.jsonl ? json(record, result) : plain(record, result));
}

int Translate::run() {
  LineReader reader(options_.files, kLongestLine);
  for (auto lines = reader.window(kWindowLines); !lines.empty();
       lines = reader.window(kWindowLines)) {
    std::vector<TextRequest> requests;
    std::vector<Record> records;
    for (Line& line : lines) records.push_back(read(std::move(line), requests));
    std::vector<Translated> results;
    measure(requests, results);
    for (const Record& record : records) {
      Translated failed;
      failed.error = record.error;
      write(record, record.error.empty() ? results[record.request] : failed);
    }
    writer_.flush();
  }
  writer_.finish();
  write_stats(options_, stats_.add(*opened_));
  const int code = failed_.finish(reader.lines());
  opened_->replicas->check_devices();
  return code;
}

}  // namespace

int translate_command(const Options& options) { return Translate(options).run(); }

}  // namespace ng
