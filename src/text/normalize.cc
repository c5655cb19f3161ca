#include "text/normalize.h"

#include <numeric>

#include "text/grapheme.h"
#include "text/utf8.h"

namespace ng {
namespace {

constexpr std::string_view kSpace = "\u2581";

// The end of the run that begins at `at` of ASCII characters that are clusters of their own and map
// to themselves.
size_t plain_end(std::string_view text, size_t at, const Charsmap& charsmap) {
  while (at < text.size() && charsmap.keeps(text[at]) &&
         (at + 1 == text.size() || static_cast<unsigned char>(text[at + 1]) < 0x80)) {
    ++at;
  }
  return at;
}

Normalized map_characters(const Normalized& in, const Charsmap& charsmap) {
  Normalized out{{}, {}, in.tracked};
  out.text.reserve(in.text.size() + in.text.size() / 8);
  const std::string_view text = in.text;
  const auto keep = [&](size_t begin, size_t end) {
    out.text += text.substr(begin, end - begin);
    if (in.tracked) {
      const auto from = in.origin.begin();
      out.origin.insert(out.origin.end(), from + static_cast<ptrdiff_t>(begin),
                        from + static_cast<ptrdiff_t>(end));
    }
  };
  for (size_t at = 0; at < text.size();) {
    const size_t plain = plain_end(text, at, charsmap);
    keep(at, plain);
    at = plain;
    if (at == text.size()) break;
    const size_t end = cluster_end(text, at);
    const auto whole =
        end - at < 6 ? charsmap.shortest(text.substr(at, end - at)) : Charsmap::Match{};
    if (whole.size > 0) {
      out.add(whole.replacement, in.origin_of(at));
      at = end;
    }
    while (at < end) {
      const size_t size = decode_utf8(text, at).size;
      const auto one = charsmap.shortest(text.substr(at, size));
      if (one.size > 0) {
        out.add(one.replacement, in.origin_of(at));
      } else {
        keep(at, at + size);
      }
      at += size;
    }
  }
  return out;
}

void strip(Normalized& in, bool left, bool right) {
  size_t begin = 0, end = in.text.size();
  while (left && begin < end) {
    const Scalar scalar = decode_utf8(in.text, begin);
    if (!is_blank(scalar.code)) break;
    begin += scalar.size;
  }
  while (right && begin < end) {
    size_t before = end - 1;
    while (before > begin && (in.text[before] & 0xC0) == 0x80) --before;
    if (!is_blank(decode_utf8(in.text, before).code)) break;
    end = before;
  }
  in.text.resize(end);
  in.text.erase(0, begin);
  if (!in.tracked) return;
  in.origin.resize(end);
  in.origin.erase(in.origin.begin(), in.origin.begin() + static_cast<ptrdiff_t>(begin));
}

Normalized collapse(Normalized in, std::string_view content) {
  if (in.text.find("  ") == std::string::npos) return in;
  Normalized out{{}, {}, in.tracked};
  for (size_t at = 0; at < in.text.size();) {
    size_t end = at;
    while (end < in.text.size() && in.text[end] == ' ') ++end;
    if (end - at >= 2) {
      out.add(content, in.origin_of(at));
      at = end;
    } else {
      out.add(std::string_view(in.text).substr(at, 1), in.origin_of(at));
      ++at;
    }
  }
  return out;
}

}  // namespace

Normalized untouched(std::string_view text, size_t begin, size_t end, bool tracked) {
  Normalized out{std::string(text.substr(begin, end - begin)), {}, tracked};
  if (tracked) {
    out.origin.resize(end - begin);
    std::iota(out.origin.begin(), out.origin.end(), static_cast<uint32_t>(begin));
  }
  return out;
}

Normalized normalize_hf(Normalized text, const std::vector<NormalizerStep>& steps,
                        const Charsmap& charsmap) {
  for (const NormalizerStep& step : steps) {
    switch (step.kind) {
      case NormalizerStep::Charsmap: text = map_characters(text, charsmap); break;
      case NormalizerStep::Strip: strip(text, step.left, step.right); break;
      case NormalizerStep::Collapse: text = collapse(std::move(text), step.content); break;
    }
  }
  return text;
}

Normalized normalize_sentencepiece(std::string_view text, const Charsmap& charsmap,
                                   const TokenMatcher& verbatim, bool tracked) {
  Normalized out{{}, {}, tracked};
  out.text.reserve(text.size() + text.size() / 2);
  out.add(kSpace, 0);
  bool after_space = true;
  for (size_t at = 0; at < text.size();) {
    const std::string_view rest = text.substr(at);
    size_t size = verbatim.match(rest).size;
    std::string_view unit = rest.substr(0, size);
    if (size == 0) {
      const auto [matched, replacement] = charsmap.longest(rest);
      size = matched > 0 ? matched : decode_utf8(rest, 0).size;
      unit = matched > 0 ? replacement : rest.substr(0, size);
    }
    const auto from = static_cast<uint32_t>(at);
    at += size;
    while (after_space && unit.starts_with(' ')) unit.remove_prefix(1);
    if (unit.empty()) continue;
    after_space = unit.ends_with(' ');
    for (char c : unit) out.add(c == ' ' ? kSpace : std::string_view(&c, 1), from);
  }
  while (out.text.ends_with(kSpace)) out.text.resize(out.text.size() - kSpace.size());
  if (tracked) out.origin.resize(out.text.size());
  return out;
}

}  // namespace ng
