"""check: what it understood of a pair, and what it refuses with which words."""
import json
import os
import shutil
import tempfile

from cli import DRAFTER, ROOT, TARGET, CliTest, main


class Check(CliTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def drafter(self, **changes):
        """A copy of the tiny drafter with other values in its config.json; None removes a key."""
        path = os.path.join(self.folder, "drafter")
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(DRAFTER, path)
        name = os.path.join(path, "config.json")
        with open(name) as file:
            config = json.load(file)
        for key, value in changes.items():
            if value is None:
                config.pop(key)
            else:
                config[key] = value
        with open(name, "w") as file:
            json.dump(config, file)
        return path

    def test_the_pair_is_understood(self):
        found = self.expect(0, "check", "-m", TARGET, "-d", DRAFTER, "--json").json()
        self.assertTrue(found["good"])
        self.assertEqual(found["target"]["architecture"], "qwen3")
        drafter = found["drafter"]
        self.assertEqual(drafter["kind"], "dspark")
        self.assertEqual(drafter["taps"], [0, 2, 4, 5, 6])
        self.assertEqual((drafter["block_size"], drafter["mask_token"], drafter["sample_from_anchor"]), (7, 4095, True))
        self.assertEqual((drafter["markov_head"], drafter["markov_rank"]), ("vanilla", 256))
        self.assertEqual((drafter["confidence_head"], drafter["confidence_with_markov"]), (True, True))
        self.assertEqual((drafter["rope"]["theta"], drafter["rope"]["interleaved"]), (1e6, False))
        text = self.expect(0, "check", "-m", TARGET, "-d", DRAFTER).out
        for part in "0, 2, 4, 5, 6", "vanilla Markov head of rank 256", "The drafter fits the target.":
            self.assertIn(part, text)

    def test_both_containers_are_understood_alike(self):
        path = os.path.join(self.folder, "drafter.gguf")
        self.expect(0, "convert", DRAFTER, path, "--type", "bf16", "--target", TARGET)
        folder = self.expect(0, "check", "-m", TARGET, "-d", DRAFTER, "--json").json()
        gguf = self.expect(0, "check", "-m", TARGET, "-d", path, "--json").json()
        self.assertEqual(gguf["drafter"].pop("tokenizer"), "the same as the target's")
        self.assertEqual(folder["drafter"].pop("tokenizer"), "the target's")
        self.assertEqual((folder["drafter"].pop("dialect"), gguf["drafter"].pop("dialect")), ("deepspec", "gguf"))
        self.assertEqual(gguf, folder)

    def test_what_does_not_fit_is_named_with_key_expected_and_found(self):
        cases = [({"target_layer_ids": [0, 2, 4, 5, 7]}, ["target_layer_ids", "7", "8 layers"]),
                 ({"target_layer_ids": None}, ["target_layer_ids"]),
                 ({"target_layer_ids": [0, 2]}, ["fc.weight", "[256, 512]", "[256, 1280]"]),
                 ({"num_target_layers": 36}, ["num_target_layers", "36", "8"]),
                 ({"vocab_size": 32000}, ["vocab_size", "32000", "4096"]),
                 ({"hidden_size": 128}, ["128", "256"]),
                 ({"mask_token_id": 4096}, ["mask_token_id", "4096"]),
                 ({"mask_token_id": None}, ["mask_token_id"]),
                 ({"block_size": None}, ["block_size"]),
                 ({"markov_rank": 255}, ["markov", "255", "256"])]
        for changes, says in cases:
            with self.subTest(changes=changes):
                path = self.drafter(**changes)
                self.expect(1, "check", "-m", TARGET, "-d", path, says=says)
                self.expect(1, "run", "-m", TARGET, "-d", path, "--tokens", "5", "-n", "1", says=says)
        refused = self.expect(1, "check", "-m", TARGET, "-d", path, "--json").json()
        self.assertFalse(refused["good"])
        self.assertIn("markov", refused["message"])

    def test_every_kind_of_drafter_is_understood(self):
        def found(name):
            return self.expect(0, "check", "-m", TARGET, "-d", os.path.join(os.path.dirname(TARGET), name), "--json").json()["drafter"]

        dflash, eagle3 = found("dflash"), found("eagle3")
        self.assertEqual((dflash["kind"], dflash["markov_head"], dflash["sample_from_anchor"]), ("dflash", "none", True))
        self.assertEqual((eagle3["kind"], eagle3["taps"], eagle3["sample_from_anchor"]), ("eagle3", [0, 2, 4, 5, 6], None))

    def test_gated_and_rnn_heads_survive_the_way_to_gguf_and_back(self):
        for name in "gated", "rnn":
            with self.subTest(name=name):
                pair = os.path.join(ROOT, "tests", "golden", "random-dspark-" + name)
                gguf, back = os.path.join(self.folder, name + ".gguf"), os.path.join(self.folder, name)
                self.expect(0, "convert", os.path.join(pair, "draft"), gguf, "--type", "bf16")
                self.expect(0, "convert", gguf, back, "--type", "bf16", "--layout", "deepspec", "--target", os.path.join(pair, "target"))
                for path in gguf, back:
                    seen = self.expect(0, "check", "-m", os.path.join(pair, "target"), "-d", path, "--json").json()["drafter"]
                    self.assertEqual(seen["markov_head"], name)

    def test_a_tokenizer_with_other_tokens_is_refused(self):
        path = self.drafter()
        with open(os.path.join(TARGET, "tokenizer.json"), encoding="utf-8") as file:
            text = file.read()
        self.expect(0, "check", "-m", TARGET, "-d", path)
        with open(os.path.join(path, "tokenizer.json"), "w", encoding="utf-8") as file:
            file.write(text)
        self.expect(0, "check", "-m", TARGET, "-d", path)
        with open(os.path.join(path, "tokenizer.json"), "w", encoding="utf-8") as file:
            file.write(text.replace("<|mask|>", "<|musk|>"))
        self.expect(1, "check", "-m", TARGET, "-d", path, says=["token 4095", "<|musk|>", "<|mask|>"])

    def test_a_gguf_drafter_of_another_tokenizer_is_refused(self):
        target, path = os.path.join(self.folder, "target.gguf"), os.path.join(self.folder, "drafter.gguf")
        self.expect(0, "convert", TARGET, target, "--type", "bf16")
        self.expect(0, "convert", DRAFTER, path, "--type", "bf16", "--target", TARGET)
        self.expect(0, "check", "-m", target, "-d", path)
        with open(path, "rb") as file:
            data = file.read()
        text = (6).to_bytes(8, "little") + "\u0120the".encode()  # a token of six bytes: its length, then all but its last letter
        at = data.index(text) + len(text)
        with open(path, "wb") as file:
            file.write(data[:at] + b"#" + data[at + 1:])
        for command in ["check"], ["run", "--tokens", "5", "-n", "1"]:
            self.expect(1, *command, "-m", target, "-d", path, says=["tokenizer.ggml.tokens", "the target's is", "made for another tokenizer"])

    def test_a_gguf_drafter_without_a_key_that_it_needs_is_refused_by_that_key(self):
        sizes = ["attention.head_count", "attention.layer_norm_rms_epsilon", "block_count", "context_length", "embedding_length", "feed_forward_length"]
        cases = [("random-dspark-vanilla", "dflash", ["dflash." + key for key in sizes + ["block_size", "target_layers"]] + ["tokenizer.ggml.mask_token_id"]),
                 ("random-eagle3", "eagle3", ["eagle3.target_layers"])]
        for name, arch, keys in cases:
            pair, path = os.path.join(ROOT, "tests", "golden", name), os.path.join(self.folder, name + ".gguf")
            self.expect(0, "convert", os.path.join(pair, "draft"), path, "--type", "bf16")
            with open(path, "rb") as file:
                data = file.read()
            for key in keys:
                with self.subTest(key=key), open(path, "wb") as file:
                    old = len(key).to_bytes(8, "little") + key.encode()  # the key's name is a text: its length first
                    self.assertEqual(data.count(old), 1)
                    file.write(data.replace(old, old[:-1] + b"X"))
                    file.flush()
                    self.expect(1, "check", "-m", os.path.join(pair, "target"), "-d", path, says=f"key '{key}' is missing: expected")

    def test_a_gguf_drafter_for_another_hidden_size_or_layer_is_refused_with_what_was_expected(self):
        pair, path = os.path.join(ROOT, "tests", "golden", "random-eagle3"), os.path.join(self.folder, "eagle3.gguf")
        self.expect(0, "convert", os.path.join(pair, "draft"), path, "--type", "bf16")
        with open(path, "rb") as file:
            data = file.read()
        for key, at, value, says in [("eagle3.target_hidden_size", 4, 96, ["target_hidden_size is 96", "64"]),
                                     ("eagle3.target_layers", 16, 1000, ["eagle3.target_layers taps layer 1000", "its last cannot be tapped", "expected at most"])]:
            with self.subTest(key=key), open(path, "wb") as file:
                at += data.index(key.encode()) + len(key)  # behind the type of the value, and of a list's elements and their number
                file.write(data[:at] + value.to_bytes(4, "little") + data[at + 4:])
                file.flush()
                self.expect(1, "check", "-m", os.path.join(pair, "target"), "-d", path, says=says)

    def test_a_target_is_not_a_drafter(self):
        self.expect(1, "check", "-m", TARGET, "-d", TARGET, says="not a drafter")
        self.expect(0, "check", "-m", TARGET)


if __name__ == "__main__":
    main()
