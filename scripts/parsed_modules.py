"""Does jaxlib's HLO parser, XLA's own, take a bundle's modules?"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's greetings
os.environ["JAX_PLATFORMS"] = "cpu"
from jaxlib import _hlo


def refusals(bundle):
    """[what is wrong] with the modules below `bundle`/hlo: as good as nothing, or what the parser says."""
    wrong = []
    paths = sorted(bundle.glob("hlo/*.pb"))
    for path in paths:
        try:
            text = _hlo.HloModule.from_serialized_hlo_module_proto(path.read_bytes()).to_string()
        except Exception as error:  # whatever XLA refuses with
            text, problem = "", str(error).splitlines()[0][:300]
        else:
            problem = "no HLO module"
        if not text.startswith("HloModule") or "ENTRY" not in text:
            wrong.append(f"jaxlib's parser, {path.name}: {problem}")
    return wrong if paths else ["there is no module to parse"]
