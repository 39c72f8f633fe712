"""hash, sign, verify: what loading refuses, and how it says so."""
import hashlib
import json
import os
import shutil
import stat
import subprocess
import tempfile

from cli import DRAFTER, TARGET, CliTest, dspark, main

def blake2b(data):
    return hashlib.blake2b(data, digest_size=32).digest()


MANIFEST = "dspark-manifest.json"


class Manifest(CliTest):
    def setUp(self):
        if dspark("hash", "absent").err.find("libsodium") >= 0:
            self.skipTest("built without libsodium")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.target = shutil.copytree(TARGET, self.path("target"))

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def change(self, name, at):
        with open(self.path("target", name), "r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 64]))

    def signed(self):
        self.expect(0, "hash", self.target)
        self.expect(0, "sign", self.target, "--new-key", self.path("key"), says="key.pub")
        return self.path("key.pub")

    def test_a_manifest_is_what_the_documentation_says(self):
        """docs/formats.md, once more in Python."""
        printed = dict(reversed(line.split("  ")) for line in self.expect(0, "hash", self.target).out.splitlines())
        self.assertEqual(set(printed), set(os.listdir(TARGET)))
        with open(self.path("target", MANIFEST)) as file:
            manifest = json.load(file)
        for file in manifest["files"]:
            with open(self.path("target", file["name"]), "rb") as source:
                data = source.read()
            self.assertEqual(len(data), file["bytes"])
            rest, parts, at = b"", [], 0
            for tensor in file["tensors"]:
                begin, end = tensor["offset"], tensor["offset"] + tensor["bytes"]
                rest += data[at:begin]
                parts.append(blake2b(data[begin:end]))
                self.assertEqual(parts[-1].hex(), tensor["digest"], tensor["name"])
                at = end
            parts.insert(0, blake2b(rest + data[at:]))
            self.assertEqual(parts[0].hex(), file["rest"])
            self.assertEqual(blake2b(b"".join(parts)).hex(), file["digest"])
            self.assertEqual(printed[file["name"]], file["digest"])
        good = self.expect(0, "verify", self.target)
        self.assertTrue(good.out.startswith("good: 5 files, 90 tensors, not signed"), good.out)

    def test_a_single_file_has_its_manifest_beside_it(self):
        model = self.path("model.gguf")
        self.expect(0, "convert", TARGET, model, "--type", "q8_0")
        self.expect(0, "hash", model)
        self.assertTrue(os.path.exists(model + ".manifest.json"))
        self.expect(0, "run", "-m", model, "--tokens", "5,6", "-n", "2", "--require-manifest")
        with open(model, "r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\x7f")
        self.expect(1, "verify", model, says="tensor 'blk.7.ffn_down.weight'")
        self.expect(1, "run", "-m", model, "--tokens", "5,6", "-n", "2", says="tensor 'blk.7.ffn_down.weight'")

    def test_every_command_that_loads_refuses_a_changed_tensor_by_name(self):
        self.expect(0, "hash", self.target)
        self.change("model.safetensors", 9000000)
        loads = [["run", "-m", self.target, "--tokens", "5,6", "-n", "2"],
                 ["logits", "-m", self.target, "--tokens", "5", "-o", self.path("l.safetensors")],
                 ["bench", "-m", self.target, "--widths", "1", "--repeat", "1", "-n", "2"],
                 ["convert", self.target, self.path("out.gguf"), "--type", "q8_0"],
                 ["verify", self.target]]
        for args in loads:
            with self.subTest(args=args):
                self.expect(1, *args, says="tensor 'model.layers.4.mlp.gate_proj.weight'")
        self.assertFalse(os.path.exists(self.path("out.gguf")))
        found = dspark("verify", self.target, "--json").json()
        self.assertFalse(found["good"])
        self.assertEqual([d["tensor"] for d in found["differences"]], ["model.layers.4.mlp.gate_proj.weight"])

    def test_a_changed_drafter_is_refused_too(self):
        drafter = shutil.copytree(DRAFTER, self.path("dspark"))
        self.expect(0, "hash", drafter)
        with open(self.path("dspark", "model.safetensors"), "r+b") as file:
            file.seek(-5, os.SEEK_END)
            file.write(b"\x11\x22")
        self.expect(1, "run", "-m", TARGET, "-d", drafter, "--tokens", "5,6", "-n", "2", says=["dspark", "tensor '"])

    def test_trust_asks_for_a_signature_of_that_key(self):
        run = ["run", "-m", self.target, "--tokens", "5,6", "-n", "2"]
        self.expect(1, *run, "--require-manifest", says="there is no manifest")
        public = self.signed()
        self.assertEqual(stat.S_IMODE(os.stat(self.path("key")).st_mode), 0o600)
        self.expect(0, *run, "--require-manifest", "--trust", public)
        self.expect(0, "verify", self.target, "--trust", public)
        self.expect(0, "sign", "--new-key", self.path("other"))
        self.expect(1, *run, "--trust", self.path("other.pub"), says="not trusted")
        self.expect(1, *run, "--trust", "00ff", says="64 lower-case hexadecimal digits")
        self.expect(1, "sign", self.target, "--key", public, says="public key")
        self.expect(1, "sign", self.target, "--new-key", self.path("key"), says="key")
        self.expect(0, "hash", self.target)  # the same text: the signature is still right
        self.expect(0, *run, "--trust", public)
        self.change(MANIFEST, 300)
        self.expect(1, *run, says=MANIFEST)
        self.expect(1, *run, "--trust", public, says=MANIFEST)

    def test_a_signature_is_one_for_other_programs(self):
        """Ed25519 over the manifest's bytes, checked with openssl where there is one that can."""
        public = self.signed()
        with open(self.path("target", MANIFEST + ".sig")) as file:
            word, kind, key, signature = file.read().split()
        self.assertEqual((word, kind), ("dspark-signature", "ed25519"))
        with open(public) as file:
            self.assertEqual(file.read().split()[2], key)
        der = bytes.fromhex("302a300506032b6570032100" + key)
        with open(self.path("k.der"), "wb") as file:
            file.write(der)
        with open(self.path("s.bin"), "wb") as file:
            file.write(bytes.fromhex(signature))
        try:
            done = subprocess.run(["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", self.path("k.der"), "-keyform", "DER", "-rawin",
                                   "-in", self.path("target", MANIFEST), "-sigfile", self.path("s.bin")], capture_output=True, timeout=60)
        except OSError:
            self.skipTest("no openssl")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_sha256_is_compared_without_a_manifest(self):
        path = self.path("target", "model.safetensors")
        with open(path, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        self.assertIn(digest, self.expect(0, "verify", path, "--sha256", digest).out)
        self.expect(0, "verify", path, "--sha256", digest.upper())
        self.assertTrue(self.expect(0, "verify", path, "--sha256", digest, "--json").json()["good"])
        self.expect(1, "verify", path, "--sha256", "0" * 64, says=["expected SHA-256 000", "found " + digest])
        self.expect_usage("verify", path, "--sha256", "00ff", says=["64 hexadecimal digits", "4 characters"])
        self.expect_usage("verify", path, "--sha256", digest, "--trust", digest, says="do not go together")
        self.expect_usage("sign", self.target, says="a key is missing")
        self.expect_usage("sign", "--key", "k", says="PATH is missing")


if __name__ == "__main__":
    main()
