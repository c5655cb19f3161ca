// `neuroglot forward`: safetensors of ids in, safetensors of hidden states and logits out.
#include "translate/forward.h"

#include <cstring>

#include "base/error.h"
#include "checkpoint/safetensors.h"
#include "tools/lines.h"
#include "tools/opened.h"

namespace ng {
namespace {

constexpr int64_t kMostTokens = 8192;  // of one row

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// An i32 or i64 [batch, length] tensor as 32-bit ids.
std::vector<int32_t> ids_of(const std::map<std::string, Tensor>& tensors, const std::string& name,
                            int64_t& batch, int64_t& length) {
  const auto found = tensors.find(name);
  check(found != tensors.end(), "--input has no tensor '{}'", name);
  const Type& type = found->second.type;
  check(type.rank() == 2 && (type.dtype == DType::s32 || type.dtype == DType::s64),
        "'{}' is {}; s32 or s64 [batch, length] is needed", name, to_string(type));
  check((batch == 0 || batch == type.size(0)) && (length == 0 || length == type.size(1)),
        "'{}' is {}, which does not fit the other tensors", name, to_string(type));
  batch = type.size(0);
  length = type.size(1);
  check(length <= kMostTokens, "'{}': rows of {} ids, at most {} are taken", name, length,
        kMostTokens);
  std::vector<int32_t> ids(static_cast<size_t>(element_count(type.shape)));
  for (size_t i = 0; i < ids.size(); ++i) {
    int64_t value = 0;
    if (type.dtype == DType::s64) {
      std::memcpy(&value, &found->second.data[i * 8], 8);
    } else {
      int32_t narrow = 0;
      std::memcpy(&narrow, &found->second.data[i * 4], 4);
      value = narrow;
    }
    check(value >= 0 && value <= INT32_MAX, "'{}': element {} is {}", name, i, value);
    ids[i] = static_cast<int32_t>(value);
  }
  return ids;
}

ForwardInputs read_inputs(const std::string& path) {
  const std::map<std::string, Tensor> tensors = read_safetensors(path);
  ForwardInputs inputs;
  for (const auto& [name, tensor] : tensors) {
    check(name == "input_ids" || name == "attention_mask" || name == "decoder_input_ids",
          "{}: unknown tensor '{}'; known are input_ids, attention_mask, decoder_input_ids", path,
          shown(name));
  }
  inputs.input_ids = ids_of(tensors, "input_ids", inputs.batch, inputs.source);
  if (tensors.count("attention_mask") != 0) {
    for (int32_t bit : ids_of(tensors, "attention_mask", inputs.batch, inputs.source)) {
      check(bit == 0 || bit == 1, "attention_mask holds {}; 0 or 1 are needed", bit);
      inputs.attention_mask.push_back(static_cast<uint8_t>(bit));
    }
  }
  inputs.decoder_input_ids = ids_of(tensors, "decoder_input_ids", inputs.batch, inputs.target);
  return inputs;
}

}  // namespace

int forward_command(const Options& options) {
  check(!options.input.empty() && !options.output.empty(), "forward needs --input and --output");
  const ForwardInputs inputs = read_inputs(options.input);
  const std::unique_ptr<Opened> opened = open_session(options);
  LineWriter writer(options.output);
  const ForwardOutputs unread = {[](const Tensor&) {}, [](std::span<const float>) {}};
  ForwardOutputs outputs;
  outputs.hidden = [&](const Tensor& hidden) {
    const Type logits{DType::f32, {inputs.batch, inputs.target, opened->session().vocabulary()}};
    const NamedType types[] = {{"encoder_last_hidden_state", hidden.type}, {"logits", logits}};
    writer.write(safetensors_header(types));
    writer.write(text_of(hidden.data));
  };
  outputs.logits = [&](std::span<const float> logits) {
    writer.write(text_of(std::as_bytes(logits)));
  };
  Stats stats;
  stats.load_seconds = opened->load_seconds;
  for (int64_t run = -options.warmup; run < options.repeat; ++run) {
    const double start = seconds_now();
    forward(opened->session(), inputs, run + 1 == options.repeat ? outputs : unread);
    if (run >= 0) stats.generate_seconds.push_back(seconds_now() - start);
  }
  writer.finish();
  stats.tokenize_seconds.resize(stats.generate_seconds.size());
  stats.input_tokens = inputs.input_ids.size();
  stats.output_tokens = inputs.decoder_input_ids.size();
  write_stats(options, stats.add(*opened));
  return 0;
}

}  // namespace ng
