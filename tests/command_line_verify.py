"""Does verify name what was damaged or changed? (After a release build.)"""
import hashlib
import json
import struct
import subprocess
import tempfile
import unittest
from pathlib import Path

from command_line import DEMO, ROOT, Demo, run, setUpModule, tearDownModule  # noqa: F401

COMPILER = ROOT / "build/release/emulated-neuronx-cc"


def change_safetensors(path, change):
    """Every tensor's bytes become change(name, bytes), as many."""
    bytes_ = bytearray(path.read_bytes())
    begin = 8 + struct.unpack("<Q", bytes_[:8])[0]
    for name, stored in json.loads(bytes_[8:begin]).items():
        if name != "__metadata__":
            first, last = (begin + offset for offset in stored["data_offsets"])
            bytes_[first:last] = change(name, bytes(bytes_[first:last]))
    path.write_bytes(bytes_)


class Verify(Demo):
    def test_verify_names_a_damaged_tensor_and_exits_with_3(self):
        damaged = self.own / "damaged"
        subprocess.run(["cp", "-r", self.bundle, damaged], check=True)
        with open(damaged / "weights.bin", "r+b") as file:
            file.seek(100_000)
            byte = file.read(1)
            file.seek(100_000)
            file.write(bytes([byte[0] ^ 1]))
        tensors = json.loads((damaged / "manifest.json").read_text())["tensors"]
        name = next(name for name, stored in tensors.items()
                    if stored["offset"] <= 100_000 < stored["offset"] + stored["bytes"])
        code, _, error = run("verify", damaged, "--quiet")
        self.assertEqual(code, 3, error)
        self.assertIn("level bytes", error)
        self.assertIn(f"'{name}' does not have the hash", error)
        code, _, _ = run("verify", self.bundle, "--reference", DEMO, "--sentences", 2, "--quiet")
        self.assertEqual(code, 0)

    def test_verify_names_the_layer_whose_weight_is_not_the_references(self):
        def scaled(tensor, data):
            if tensor != "model.decoder.layers.0.fc1.weight":
                return data
            values = struct.unpack(f"<{len(data) // 4}f", data)
            return struct.pack(f"<{len(values)}f", *(1.01 * value for value in values))

        checkpoint, reference = self.own / "true", self.own / "reference"
        run("make-checkpoint", "--shape", "tiny", "--format", "safetensors", "--dtype", "f32", checkpoint)
        subprocess.run(["cp", "-r", checkpoint, reference], check=True)
        change_safetensors(reference / "model.safetensors", scaled)
        code, _, error = run("compile", checkpoint, "-o", self.own / "bundle", "--quiet")
        self.assertEqual(code, 0, error)
        code, out, error = run("verify", self.own / "bundle", "--reference", reference, "--sentences", 1,
                               "--json", "--quiet")
        self.assertEqual(code, 3, error)
        self.assertIn("level build: model.decoder.layers.0.fc1.weight", error)
        findings = json.loads(out)["findings"]
        self.assertEqual(next(f["where"] for f in findings if f["level"] == "precision"), "decoder.0")

    def test_as_bf16_tells_tokens_and_chrf_and_what_it_needs(self):
        texts = self.own / "texts"
        texts.write_text("I like tea.\n\nThe house is very old.\nWhere is Tom?\n")
        rounded = ("verify", DEMO, "--as", "bf16", "--quiet")
        languages = ("--from", "eng_Latn", "--to", "fra_Latn")
        code, out, error = run(*rounded, *languages, "--text", texts, "--json")
        self.assertEqual(code, 0, error)
        told = json.loads(out)
        self.assertEqual((told["as"], told["sentences"]), ("bf16", 3))
        self.assertGreater(told["tokens"], 10)
        self.assertGreater(told["chrf++"], 50)
        code, out, error = run("verify", self.bundle, "--reference", DEMO, *rounded[2:], *languages, "--sentences", 1)
        self.assertEqual(code, 0, error)
        self.assertRegex(out.decode(), r"^bf16 against float32: \d+ of \d+ tokens and \d of 1 sentences are equal, chrF")
        for arguments, word in (((*rounded,), "--from CODE"), ((*rounded[:3], "f16"), "--as f16"),
                                ((*rounded, *languages, "--device", "cpu"), "--device is not for --as"),
                                (("verify", self.bundle, *rounded[2:]), "--reference MODEL_DIR"),
                                ((*rounded, "--reference", DEMO), "--reference MODEL_DIR"),
                                (("verify", self.bundle, "--text", texts), "--text is for verify --as")):
            code, _, error = run(*arguments)
            self.assertEqual(code, 1, arguments)
            self.assertIn(word, error)


class VerifyModules(Demo):
    """On the emulated device."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.modules = Path(tempfile.mkdtemp(dir=cls.folder.name)) / "modules"
        code, _, error = run("compile", DEMO, "-o", cls.modules, "--target", "inf2", "--neuronx-cc",
                             COMPILER, "--batch", "1,2", "--beams", "2",
                             "--source-lengths", "16,32", "--target-length", "24", "--with-logits", "--quiet")
        assert code == 0, error

    def changed(self, name, change):
        """A copy of the bundle whose files of that name are change(bytes), hashed anew."""
        path = self.own / "changed"
        subprocess.run(["cp", "-r", self.modules, path], check=True)
        manifest = json.loads((path / "manifest.json").read_text())
        data = change((path / name).read_bytes())
        (path / name).write_bytes(data)
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        text = json.dumps(manifest).encode()
        (path / "manifest.json").write_bytes(text)
        (path / "manifest.sha256").write_text(hashlib.sha256(text).hexdigest() + "  manifest.json\n")
        return path

    def verify(self, bundle, *options):
        return run("verify", bundle, "--device", "emulated", "--sentences", 2, "--quiet", *options)

    def test_a_true_bundle_passes_and_says_which_modules_ran(self):
        stats = self.own / "stats"
        code, out, error = self.verify(self.modules, "--reference", DEMO, "--json", "--stats", stats)
        self.assertEqual(code, 0, error)
        told = json.loads(out)
        self.assertEqual(set(told["modules"].values()), {0.0})
        self.assertLess(told["precision"]["logits"], 1e-5)
        self.assertEqual((told["tokens"], told["texts"]), (told["tokens_equal"], 2))
        self.assertEqual(set(json.loads(stats.read_text())["executions"]), set(told["modules"]))
        self.assertEqual(json.loads((self.modules / "verification.json").read_text()), told)

    def test_a_neff_with_another_constant_is_found_by_its_module(self):
        scale = struct.pack("<f", 0.125)
        for module in ("encode-b2-s16-t24", "decode-b1-s32-t24"):
            file, neff = self.own / "module.pb", self.own / "module.neff"
            file.write_bytes((self.modules / f"hlo/{module}.pb").read_bytes().replace(scale, struct.pack("<f", 0.126)))
            subprocess.run([COMPILER, "compile", file, "--framework", "XLA", "--target", "inf2", "--model-type",
                            "transformer", "--auto-cast", "none", "--enable-saturate-infinity", "--optlevel", "1",
                            "--output", neff], check=True, capture_output=True, cwd=self.own)
            bundle = self.changed(f"neff/{module}.neff", lambda _: neff.read_bytes())
            code, _, error = self.verify(bundle)
            self.assertEqual(code, 3, error)
            self.assertIn(f"level device: {module}: ", error)
            subprocess.run(["rm", "-r", bundle], check=True)

    def test_a_neff_of_another_module_is_refused(self):
        other = (self.modules / "neff/encode-b2-s32-t24.neff").read_bytes()
        code, _, error = self.verify(self.changed("neff/encode-b1-s16-t24.neff", lambda data: other))
        self.assertEqual(code, 2, error)
        self.assertIn("the NEFF of encode-b1-s16-t24 is not of that module", error)

    def test_a_module_that_is_none_ends_at_bytes_and_another_at_build(self):
        name = "hlo/decode-b1-s32-t24.pb"
        code, _, error = self.verify(self.changed(name, lambda data: data[:-9]))
        self.assertEqual(code, 3, error)
        self.assertIn("level bytes", error)
        subprocess.run(["rm", "-r", self.own / "changed"], check=True)
        scale = struct.pack("<f", 0.125)
        bundle = self.changed(name, lambda data: data.replace(scale, struct.pack("<f", 0.126)))
        code, out, error = self.verify(bundle, "--reference", DEMO, "--json")
        self.assertEqual(code, 3, error)
        self.assertIn(f"level build: {name}", error)
        self.assertIn("device", [finding["level"] for finding in json.loads(out)["findings"]])


if __name__ == "__main__":
    unittest.main()
