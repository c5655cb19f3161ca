// `neuroglot generate`: requests of token ids in, sequences out, a line each.
#include <optional>

#include "base/error.h"
#include "tools/lines.h"
#include "tools/opened.h"
#include "tools/records.h"
#include "translate/batch.h"
#include "translate/generate_request.h"

namespace ng {
namespace {

// One line's request: its jobs are [first, first + rows) of the window's.
struct Request {
  Line line;
  std::string error;
  std::vector<std::string> warnings;
  bool with_scores = false;
  size_t first = 0, rows = 0;
};

class Generate {
 public:
  explicit Generate(const Options& options)
      : options_(options), opened_(open_for(options)), writer_("") {
    stats_.load_seconds = opened_->load_seconds;
    stats_.tokenize_seconds.resize(static_cast<size_t>(options.repeat));
    stats_.generate_seconds.resize(static_cast<size_t>(options.repeat));
  }
  int run();

 private:
  void parse(Request& request, std::vector<Job>& jobs) const;
  void measure(std::vector<Job>& jobs);
  std::string answer(const Request& request, const std::vector<Job>& jobs);

  const Options& options_;
  std::unique_ptr<Opened> opened_;
  LineWriter writer_;
  Stats stats_;
  FailedRecords failed_{"lines"};
};

void Generate::parse(Request& request, std::vector<Job>& jobs) const {
  const size_t before = jobs.size();
  try {
    check(!request.line.too_long, "request: is longer than {} MiB: split it",
          JsonLimits{}.bytes >> 20);
    const Json json = parse_json(request.line.text, "request");
    const int64_t vocabulary = opened_->session().vocabulary();
    GenerateRequest parsed = parse_generate_request(json, opened_->defaults, vocabulary);
    request.first = jobs.size();
    request.rows = parsed.rows.size();
    request.warnings = std::move(parsed.warnings);
    request.with_scores = parsed.options.num_beams > 1;
    for (GenerateRow& row : parsed.rows) {
      GenerationOptions own = parsed.options;
      own.forced_bos_token_id = row.forced_bos_token_id;
      jobs.push_back({std::move(row.input_ids), std::move(row.attention_mask),
                      BeamSearch(own, std::move(row.prompt), vocabulary), ""});
    }
  } catch (const Error& error) {
    if (error.kind() != Error::Kind::User) throw;
    jobs.erase(jobs.begin() + static_cast<long>(before), jobs.end());
    request.rows = 0;
    request.error = error.what();
  }
}

// Runs the jobs --warmup + --repeat times; the last run's results stay.
void Generate::measure(std::vector<Job>& jobs) {
  for (int64_t run = -options_.warmup; run < options_.repeat; ++run) {
    const bool last = run + 1 == options_.repeat;
    std::vector<Job> copies = last ? std::vector<Job>{} : jobs;
    const double start = seconds_now();
    opened_->replicas->run(last ? jobs : copies, {options_.batch_sentences()});
    if (run >= 0) stats_.generate_seconds[static_cast<size_t>(run)] += seconds_now() - start;
  }
}

std::string Generate::answer(const Request& request, const std::vector<Job>& jobs) {
  std::string error = request.error;
  for (size_t i = 0; i < request.rows && error.empty(); ++i) error = jobs[request.first + i].error;
  if (!error.empty()) {
    failed_.add(request.line.number, error);
    return Json{{"error", {{"code", "invalid_request"}, {"message", error}}}}.dump() + "\n";
  }
  Json sequences = Json::array(), scores = Json::array(), reasons = Json::array();
  for (size_t i = 0; i < request.rows; ++i) {
    const Job& job = jobs[request.first + i];
    stats_.input_tokens += job.source.size();
    for (const Hypothesis& found : job.search.results()) {
      stats_.output_tokens += found.ids.size() - job.search.prompt().size();
      sequences.push_back(found.ids);
      scores.push_back(found.score);
      reasons.push_back(name(found.reason));
    }
  }
  Json json = {{"sequences", sequences}, {"finish_reason", reasons}};
  if (request.with_scores) json["sequences_scores"] = scores;
  return json.dump() + "\n";
}

int Generate::run() {
  LineReader reader(options_.files, JsonLimits{}.bytes);
  for (auto lines = reader.window(kWindowLines); !lines.empty();
       lines = reader.window(kWindowLines)) {
    std::vector<Request> requests;
    std::vector<Job> jobs;
    for (Line& line : lines) {
      requests.push_back({std::move(line), "", {}, false, 0, 0});
      parse(requests.back(), jobs);
      for (const std::string& warning : requests.back().warnings) {
        warn(options_, requests.back().line.number, warning);
      }
    }
    measure(jobs);
    for (const Request& request : requests) writer_.write(answer(request, jobs));
    writer_.flush();
  }
  writer_.finish();
  write_stats(options_, stats_.add(*opened_));
  const int code = failed_.finish(reader.lines());
  opened_->replicas->check_devices();
  return code;
}

}  // namespace

int generate_command(const Options& options) { return Generate(options).run(); }

}  // namespace ng
