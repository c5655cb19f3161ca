"""Does verify name what was damaged or changed? (After a release build.)"""
import json
import struct
import subprocess
import unittest

from command_line import DEMO, Demo, run, setUpModule, tearDownModule  # noqa: F401


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


if __name__ == "__main__":
    unittest.main()
