#include "translate/generation_options.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "base/error.h"

namespace ng {
namespace {

constexpr int kMostInt = std::numeric_limits<int>::max();

std::string text_of(const Json& value) {
  return shown(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

int integer_of(const Json& value, int least, int most, std::string_view what) {
  check(value.is_number_integer(), "{} must be an integer, not {}", what, text_of(value));
  const auto number = value.get<int64_t>();  // beyond int64 it wraps to a negative one
  check(number >= least && number <= most,
        "{} is {}; it must be {} to {}: set it so, or leave it out", what, text_of(value), least,
        most);
  return static_cast<int>(number);
}

// One option's value and how to read it; a null gives the fallback, or nothing.
struct Value {
  const Json& json;
  std::string what;  // request: "num_beams"

  int integer(int least, int most, int fallback) const {
    return json.is_null() ? fallback : integer_of(json, least, most, what);
  }
  std::optional<int> maybe(int least, int most) const {
    if (json.is_null()) return std::nullopt;
    return integer_of(json, least, most, what);
  }
  double number(double fallback) const {
    if (json.is_null()) return fallback;
    check(json.is_number(), "{} must be a number, not {}", what, text_of(json));
    return json.get<double>();
  }
  std::vector<int32_t> ids() const {
    return json.is_null() ? std::vector<int32_t>{} : ids_of(json, what);
  }
  std::vector<int32_t> id_or_ids() const {
    if (json.is_number()) return {integer_of(json, 0, kMostInt, what)};
    return ids();
  }
};

double penalty(const Value& value, double fallback) {
  const double penalty = value.number(fallback);
  const auto rounded = static_cast<float>(penalty);  // what the scores are multiplied with
  check(rounded > 0 && std::isfinite(rounded), "{} is {}; it must be above 0: 1 changes nothing",
        value.what, penalty);
  return penalty;
}

EarlyStopping early_stopping(const Value& value, EarlyStopping fallback) {
  if (value.json.is_null()) return fallback;
  if (value.json == "never") return EarlyStopping::Never;
  check(value.json.is_boolean(), "{} must be true, false or \"never\", not {}", value.what,
        text_of(value.json));
  return value.json.get<bool>() ? EarlyStopping::Yes : EarlyStopping::No;
}

std::vector<std::vector<int32_t>> words(const Value& value) {
  std::vector<std::vector<int32_t>> words;
  if (value.json.is_null()) return words;
  check(value.json.is_array() && !value.json.empty(), "{} must be a list of lists of ids, not {}",
        value.what, text_of(value.json));
  for (const Json& word : value.json) {
    words.push_back(ids_of(word, value.what));
    check(!words.back().empty(), "{} holds an empty list", value.what);
  }
  return words;
}

using Options = GenerationOptions;

struct Field {
  const char* key;
  void (*set)(Options& options, const Value& value);
};

const Field kFields[] = {
    {"num_beams",
     [](Options& o, const Value& v) { o.num_beams = v.integer(1, kMostBeams, o.num_beams); }},
    {"num_return_sequences",
     [](Options& o, const Value& v) {
       o.num_return_sequences = v.integer(1, kMostBeams, o.num_return_sequences);
     }},
    {"max_length",
     [](Options& o, const Value& v) {
       o.max_length = v.integer(1, kMostInt, o.max_length);
       o.max_length_given = o.max_length_given || !v.json.is_null();
     }},
    {"max_new_tokens", [](Options& o, const Value& v) { o.max_new_tokens = v.maybe(1, kMostInt); }},
    {"min_length",
     [](Options& o, const Value& v) { o.min_length = v.integer(0, kMostInt, o.min_length); }},
    {"min_new_tokens", [](Options& o, const Value& v) { o.min_new_tokens = v.maybe(0, kMostInt); }},
    {"length_penalty",
     [](Options& o, const Value& v) { o.length_penalty = v.number(o.length_penalty); }},
    {"early_stopping",
     [](Options& o, const Value& v) { o.early_stopping = early_stopping(v, o.early_stopping); }},
    {"repetition_penalty",
     [](Options& o, const Value& v) { o.repetition_penalty = penalty(v, o.repetition_penalty); }},
    {"no_repeat_ngram_size",
     [](Options& o, const Value& v) {
       o.no_repeat_ngram_size = v.integer(0, kMostInt, o.no_repeat_ngram_size);
     }},
    {"bad_words_ids", [](Options& o, const Value& v) { o.bad_words_ids = words(v); }},
    {"suppress_tokens", [](Options& o, const Value& v) { o.suppress_tokens = v.ids(); }},
    {"forced_bos_token_id",
     [](Options& o, const Value& v) { o.forced_bos_token_id = v.maybe(0, kMostInt); }},
    {"forced_eos_token_id",
     [](Options& o, const Value& v) { o.forced_eos_token_id = v.id_or_ids(); }},
    {"eos_token_id", [](Options& o, const Value& v) { o.eos_token_id = v.id_or_ids(); }},
};

// Options of the files that change what transformers generates and that this search does not have,
// each with the value that changes nothing. (Those of sampling count for nothing without do_sample,
// and remove_invalid_values only where scores are no numbers, which is an error here.)
void refuse_unsupported(const Json& file, std::string_view what) {
  static const std::pair<const char*, Json> kNeutral[] = {
      {"do_sample", false},
      {"num_beam_groups", 1},
      {"penalty_alpha", 0},
      {"constraints", nullptr},
      {"force_words_ids", nullptr},
      {"encoder_repetition_penalty", 1},
      {"encoder_no_repeat_ngram_size", 0},
      {"renormalize_logits", false},
      {"exponential_decay_length_penalty", nullptr},
      {"begin_suppress_tokens", Json::array()},
      {"sequence_bias", nullptr},
      {"guidance_scale", 1},
      {"watermarking_config", nullptr},
      {"stop_strings", nullptr},
      {"max_time", nullptr},
      {"dola_layers", nullptr},
      {"prompt_lookup_num_tokens", nullptr},
      {"assistant_early_exit", nullptr},
      {"token_healing", false},
  };
  for (const auto& [key, neutral] : kNeutral) {
    const auto found = file.find(key);
    if (found == file.end() || found->is_null()) continue;
    check(*found == neutral,
          "{}: \"{}\" is {}, which would change results and is not supported: {}", what, key,
          text_of(*found), neutral.is_null() ? "remove it" : "set it to " + neutral.dump());
  }
}

}  // namespace

std::vector<int32_t> ids_of(const Json& list, std::string_view what) {
  check(list.is_array(), "{} must be a list of ids, not {}", what, text_of(list));
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (const Json& id : list) ids.push_back(integer_of(id, 0, kMostInt, what));
  return ids;
}

bool apply_option(GenerationOptions& options, const std::string& key, const Json& value,
                  std::string_view what) {
  for (const Field& field : kFields) {
    if (key != field.key) continue;
    field.set(options, Value{value, fmt::format("{}: \"{}\"", what, key)});
    return true;
  }
  return false;
}

GenerationOptions defaults_from(const Json& config, const Json* generation_config) {
  const std::string_view what = generation_config ? "generation_config.json" : "config.json";
  Json file = generation_config ? *generation_config : config;
  check(config.is_object() && file.is_object(), "{} must hold an object", what);
  if (generation_config == nullptr) {
    // What M2M100Config puts where a key is absent; a key that is null stays null.
    const std::pair<const char*, int> ids[] = {
        {"bos_token_id", 0}, {"eos_token_id", 2}, {"decoder_start_token_id", 2}};
    for (const auto& [key, id] : ids) file.emplace(key, id);
  }
  refuse_unsupported(file, what);
  GenerationOptions options;
  for (const auto& [key, value] : file.items()) apply_option(options, key, value, what);
  options.max_length_given = false;
  const int64_t start =
      json_int(file, "decoder_start_token_id", json_int(file, "bos_token_id", -1, what), what);
  check(start >= 0 && start <= kMostInt,
        "{}: \"decoder_start_token_id\" (or else \"bos_token_id\") must be an id, not {}", what,
        start);
  options.decoder_start_token_id = static_cast<int32_t>(start);
  const int64_t positions = json_int(config, "max_position_embeddings", 1024, "config.json");
  options.max_position_embeddings = static_cast<int>(std::clamp<int64_t>(positions, 0, kMostInt));
  return options;
}

void check_ids(const GenerationOptions& options, int64_t vocab_size) {
  const auto in_range = [&](std::span<const int32_t> ids, const char* key) {
    for (const int32_t id : ids) {
      check(id >= 0 && id < vocab_size, "\"{}\" names id {}; the vocabulary has {}", key, id,
            vocab_size);
    }
  };
  for (const auto& word : options.bad_words_ids) in_range(word, "bad_words_ids");
  in_range(options.suppress_tokens, "suppress_tokens");
  in_range(options.forced_eos_token_id, "forced_eos_token_id");
  in_range(options.eos_token_id, "eos_token_id");
  in_range({&options.decoder_start_token_id, 1}, "decoder_start_token_id");
  if (options.forced_bos_token_id)
    in_range({&*options.forced_bos_token_id, 1}, "forced_bos_token_id");
}

std::vector<std::string> resolve(GenerationOptions& options, size_t prompt_length) {
  std::vector<std::string> warnings;
  const auto prompt = static_cast<int64_t>(prompt_length);
  int64_t most = options.max_length;
  int64_t least = options.min_length;
  if (options.max_new_tokens) {
    if (options.max_length_given) {
      warnings.push_back("max_new_tokens and max_length are both given: max_new_tokens is used");
    }
    most = *options.max_new_tokens + prompt;
  } else if (!options.max_length_given && most == GenerationOptions{}.max_length) {
    most = std::min<int64_t>(most + prompt, options.max_position_embeddings);
  }
  if (options.min_new_tokens) least = *options.min_new_tokens + prompt;
  check(most <= kMostTargetIds,
        "a sequence of {} ids was asked for, at most {} fit: lower max_length or max_new_tokens",
        most, kMostTargetIds);
  check(prompt < most, "the decoder prompt has {} ids and max_length is {}: raise max_length",
        prompt, most);
  check(options.num_return_sequences <= options.num_beams,
        "num_return_sequences is {}, more than num_beams, {}: lower it or raise num_beams",
        options.num_return_sequences, options.num_beams);
  if (least > most) {
    warnings.push_back(fmt::format(
        "a minimum of {} ids cannot be met: generation stops at max_length, {}", least, most));
  }
  options.max_length = static_cast<int>(most);
  options.min_length = static_cast<int>(std::min<int64_t>(least, kMostInt));
  return warnings;
}

}  // namespace ng
