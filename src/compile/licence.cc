// Under which licence are a checkpoint's weights, as far as its files say?
#include <fmt/format.h>

#include <algorithm>

#include "compile/compile.h"

namespace ng {
namespace {

std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return text;
}

// `license: NAME` in the YAML front matter of a model card, or "".
std::string card_licence(const Path& path) {
  if (!std::filesystem::is_regular_file(path)) return "";
  const auto file = MappedFile::open(path);
  const std::string_view text(reinterpret_cast<const char*>(file->bytes().data()),
                              std::min<size_t>(file->bytes().size(), 16384));
  const size_t end = text.find("\n---", 3);
  if (!text.starts_with("---") || end == std::string_view::npos) return "";
  constexpr std::string_view kKey = "\nlicense:";
  const size_t at = text.substr(0, end).find(kKey);
  if (at == std::string_view::npos) return "";
  const std::string_view rest = text.substr(at + kKey.size(), 80);
  std::string name;
  for (const char c : rest.substr(0, rest.find('\n'))) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       c == '-' || c == '.' || c == '_';
    if (plain) name += c;
  }
  return name;
}

}  // namespace

std::string licence(const Checkpoint& checkpoint) {
  const std::string card = card_licence(checkpoint.path() / "README.md");
  if (!card.empty()) return fmt::format("{}, says the checkpoint's README.md", card);
  const auto text = [&](const char* key) {
    const auto found = checkpoint.config().find(key);
    const bool is_text = found != checkpoint.config().end() && found->is_string();
    return is_text ? lower_case(found->get<std::string>()) : std::string();
  };
  const std::string name = text("_name_or_path"), tokenizer = text("tokenizer_class");
  const auto called = [&](std::string_view part) { return name.find(part) != std::string::npos; };
  if (called("nllb") || tokenizer.starts_with("nllb")) {
    return "the weights of NLLB-200 are CC-BY-NC 4.0 unless their maker says otherwise";
  }
  if (called("m2m100") || called("small100") || tokenizer.starts_with("m2m100")) {
    return "the weights of M2M100 and SMaLL-100 are MIT";
  }
  return "unknown";
}

}  // namespace ng
