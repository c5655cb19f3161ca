#include "emulated/pseudo_neff.h"

#include <charconv>
#include <cstring>

#include "base/error.h"
#include "base/file.h"

namespace ng {

std::string pseudo_neff(std::string_view hlo, std::string_view name, const NeuronVersion& version,
                        uint32_t lnc) {
  NeffHeaderBytes header = {};
  header.package_version = 2;
  header.header_bytes = sizeof header;
  header.data_bytes = hlo.size();
  header.major = 2;
  const std::string build = std::string(kEmulatedBuild) + version.text;
  build.copy(header.compiler_build, sizeof header.compiler_build - 1);
  name.copy(header.name, sizeof header.name - 1);
  header.cores = header.requested_cores = 1;
  header.lnc = lnc;
  const std::string hash = sha256(hlo);
  for (size_t i = 0; i < sizeof header.hash; ++i) {
    std::from_chars(hash.data() + 2 * i, hash.data() + 2 * i + 2, header.hash[i], 16);
  }
  std::memcpy(header.uuid, header.hash, sizeof header.uuid);
  std::string file(reinterpret_cast<const char*>(&header), sizeof header);
  return file.append(hlo);
}

std::string_view hlo_of(std::span<const std::byte> pseudo_neff, std::string_view what) {
  const NeffHeader header = read_neff_header(pseudo_neff, what);
  check(is_emulated(header), "{}: is a real NEFF: it holds no HLO", what);
  const auto data = pseudo_neff.subspan(sizeof(NeffHeaderBytes));
  check(header.data_bytes == data.size(), "{}: {} bytes after the header, which says {}", what,
        data.size(), header.data_bytes);
  check(sha256(data) == header.hash, "{}: is damaged: its bytes have another hash", what);
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}

}  // namespace ng
