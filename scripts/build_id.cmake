# Writes OUT, which defines ng::kBuildId: VERSION and a hash of the contents of FILES.
set(hashes)
foreach(file ${FILES})
  file(SHA256 ${file} hash)
  get_filename_component(name ${file} NAME)
  string(APPEND hashes "${name} ${hash}\n")
endforeach()
string(SHA256 id "${hashes}")
file(WRITE ${OUT} "namespace ng {\nextern const char* const kBuildId;\n"
  "const char* const kBuildId = \"${VERSION} ${id}\";\n}  // namespace ng\n")
