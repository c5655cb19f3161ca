// How is what verify found told as JSON?
#include "compile/verify.h"

namespace ng {

Json to_json(const VerifyReport& report) {
  Json findings = Json::array(), precision = Json::object(), modules = Json::object();
  for (const Finding& finding : report.findings) {
    findings.push_back(
        {{"level", finding.level}, {"where", finding.where}, {"what", finding.what}});
  }
  for (const auto& [tap, error] : report.precision) precision[tap] = error;
  for (const auto& [module, error] : report.modules) modules[module] = error;
  return {{"device", report.device},
          {"findings", findings},
          {"precision", precision},
          {"modules", modules},
          {"nodes", report.nodes},
          {"tensors", report.tensors},
          {"tokens", report.tokens},
          {"tokens_equal", report.tokens_equal},
          {"ties", report.ties},
          {"texts", report.texts},
          {"texts_equal", report.texts_equal},
          {"referenced", report.referenced},
          {"ok", report.findings.empty()}};
}

}  // namespace ng
