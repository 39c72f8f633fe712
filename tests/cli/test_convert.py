"""convert: the files it makes run, and say what the folders they were made of say."""
import array
import json
import os
import tempfile

from cli import DRAFTER, QUESTION, ROOT, TARGET, CliTest, dspark, main

FLOATS = ["f32", "bf16", "f16"]
BLOCKS = ["q8_0", "q4_0", "q4_k", "q5_k", "q6_k", "q4_k_m"]
TOKENS = "4091,83,300,17,256,1999,5"


class Convert(CliTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def convert(self, source, kind, *args):
        path = self.path(f"{os.path.basename(source)}-{kind}.gguf")
        result = self.expect(0, "convert", source, path, "--type", kind, *args, says="tensors")
        self.assertEqual(result.out, "")
        return path

    def logits(self, model, *args):
        path = self.path("logits.safetensors")
        self.expect(0, "logits", "-m", model, "--tokens", TOKENS, "--hidden", "-o", path, *args)
        with open(path, "rb") as file:
            return file.read()

    def answer(self, model, *args):
        return self.expect(0, "run", "-m", model, "--json", "--chat", "-p", QUESTION, "-n", "200", *args).json()

    def test_bf16_and_f32_files_give_the_bits_of_the_folder(self):
        self.assertEqual(self.logits(self.convert(TARGET, "bf16")), self.logits(TARGET))
        self.assertEqual(self.logits(self.convert(TARGET, "f32")), self.logits(TARGET, "--weights", "f32"))

    def test_other_families_keep_their_logits(self):
        """Llama's q and k change their order, Llama 3's rope becomes a tensor, Mistral's window a key, Qwen2 has biases."""
        def values(model):
            data = self.logits_of(model)
            header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
            begin, end = header["logits"]["data_offsets"]
            at = 8 + int.from_bytes(data[:8], "little")
            return array.array("f", data[at + begin:at + end])

        for name in "llama3-rope", "mistral-swa", "qwen2", "qwen3-yarn":
            with self.subTest(name=name):
                folder = os.path.join(ROOT, "tests", "golden", "target-" + name)
                expected, found = values(folder), values(self.convert(folder, "f32"))
                self.assertEqual(len(expected), len(found))
                self.assertLess(max(abs(a - b) for a, b in zip(expected, found)), 1e-4)

    def logits_of(self, model):
        path = self.path("family.safetensors")
        tokens = ",".join(str((7 * i * i + 3 * i) % 90) for i in range(40))
        self.expect(0, "logits", "-m", model, "--tokens", tokens, "--weights", "f32", "--kv", "f32", "-o", path)
        with open(path, "rb") as file:
            return file.read()

    def test_every_type_runs_to_the_end_of_its_answer(self):
        for kind in FLOATS + BLOCKS:
            with self.subTest(kind=kind):
                answer = self.answer(self.convert(TARGET, kind))
                self.assertEqual(answer["stop"], "eos")
                self.assertGreater(len(answer["tokens"]), 10)

    def test_float_types_say_what_the_folder_says(self):
        expected = self.answer(TARGET)["tokens"]
        for kind in FLOATS:
            with self.subTest(kind=kind):
                self.assertEqual(self.answer(self.convert(TARGET, kind))["tokens"], expected)

    def test_the_drafter_changes_no_token_and_drafts_as_well(self):
        best = self.answer(TARGET, "-d", DRAFTER, "--spec", "fixed:7")["tau"]
        for kind in "bf16", "q8_0", "q4_k_m", "q4_0":
            with self.subTest(kind=kind):
                target, drafter = self.convert(TARGET, kind), self.convert(DRAFTER, kind, "--target", TARGET)
                plain, drafted = self.answer(target), self.answer(target, "-d", drafter, "--spec", "fixed:7")
                self.assertEqual(drafted["tokens"], plain["tokens"])
                self.assertGreater(drafted["tau"], 0.7 * best)

    def test_a_bf16_drafter_drafts_the_same(self):
        def trace(drafter):
            path = self.path("trace.jsonl")
            self.answer(TARGET, "-d", drafter, "--spec", "fixed:7", "--trace", path)
            with open(path) as file:
                return [json.loads(line) for line in file]

        for args in ["--target", TARGET], ["--no-embeddings"], []:
            with self.subTest(args=args):
                self.assertEqual(trace(self.convert(DRAFTER, "bf16", *args)), trace(DRAFTER))

    def test_the_tokenizer_comes_along(self):
        with open(os.path.join(ROOT, "tests", "golden", "tokenizer", "pair", "cases.jsonl"), encoding="utf-8") as file:
            texts = [json.loads(line)["text"] for line in file]
        lines = "".join(json.dumps(text) + "\n" for text in texts).encode()
        model = self.convert(TARGET, "q8_0")
        for args in [], ["--no-special"], ["--bos"]:
            with self.subTest(args=args):
                self.assertEqual(dspark("tokenize", "-m", model, *args, stdin=lines).out, dspark("tokenize", "-m", TARGET, *args, stdin=lines).out)

    @staticmethod
    def tensors(folder):
        """{name: (dtype, shape, bytes)} of a folder's model.safetensors."""
        with open(os.path.join(folder, "model.safetensors"), "rb") as file:
            data = file.read()
        begin = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:begin])
        header.pop("__metadata__", None)
        return {name: (t["dtype"], t["shape"], data[begin + t["data_offsets"][0]:begin + t["data_offsets"][1]]) for name, t in header.items()}

    @staticmethod
    def config(folder):
        with open(os.path.join(folder, "config.json")) as file:
            return json.load(file)

    def test_a_drafter_goes_to_gguf_and_back_byte_by_byte(self):
        """DeepSpec's folder -> GGUF without the target's tables, norms in f32 -> DeepSpec's folder."""
        gguf, back = self.convert(DRAFTER, "bf16", "--target", TARGET), self.path("back")
        self.expect(0, "convert", gguf, back, "--type", "bf16", "--layout", "deepspec", "--target", TARGET)
        self.assertEqual(self.tensors(back), self.tensors(DRAFTER))
        original, made = self.config(DRAFTER), self.config(back)
        self.assertEqual(made, {key: original.get(key) for key in made})
        self.assertEqual(sorted(os.listdir(back)), ["config.json", "model.safetensors"])
        for needed in "num_target_layers", "target_layer_ids", "markov_head_type", "confidence_head_with_markov":
            self.assertIn(needed, made)
        self.expect(0, "check", "-m", TARGET, "-d", back)

    def test_a_drafter_goes_to_speculators_layout(self):
        folder = self.path("speculators")
        self.expect(0, "convert", DRAFTER, folder, "--type", "bf16", "--layout", "speculators")
        self.assertEqual(self.tensors(folder), self.tensors(DRAFTER))
        original, made = self.config(DRAFTER), self.config(folder)
        self.assertEqual(made["speculators_model_type"], "dspark")
        self.assertEqual(made["aux_hidden_state_layer_ids"], [layer + 1 for layer in original["target_layer_ids"]])
        self.assertEqual((made["draft_vocab_size"], made["target_hidden_size"], made["sample_from_anchor"]), (4096, 256, True))
        self.assertEqual(made["transformer_layer_config"]["num_hidden_layers"], original["num_hidden_layers"])

    def test_a_layout_that_cannot_be_is_refused_and_leaves_nothing(self):
        out = self.path("out")
        self.expect(1, "convert", DRAFTER, out, "--type", "q8_0", "--layout", "deepspec", says="f32, bf16 or f16")
        self.expect(1, "convert", TARGET, out, "--type", "bf16", "--layout", "deepspec", says="not a drafter")
        gguf = self.convert(DRAFTER, "bf16", "--no-embeddings")
        self.expect(1, "convert", gguf, out, "--type", "bf16", "--layout", "deepspec", says=["embed_tokens.weight", "--target"])
        self.assertFalse(os.path.exists(out))
        self.expect_usage("convert", DRAFTER, out, "--type", "bf16", "--layout", "zip", says="speculators")

    def test_a_file_may_be_converted_onto_itself(self):
        path = self.convert(TARGET, "bf16")
        self.expect(0, "convert", path, path, "--type", "q8_0")
        self.assertEqual(self.answer(path)["stop"], "eos")

    def test_quantising_again_is_warned_about(self):
        path = self.convert(TARGET, "q4_0")
        self.expect(0, "convert", path, self.path("again.gguf"), "--type", "q8_0", says="quantised again")

    def test_wrong_usage_is_explained(self):
        out = self.path("x.gguf")
        self.expect_usage("convert", TARGET, out, says="--type")
        self.expect_usage("convert", TARGET, "--type", "q8_0", says="OUT is missing")
        self.expect_usage("convert", TARGET, out, "--type", "q9_0", says="q8_0")
        self.expect_usage("convert", TARGET, out, "more", "--type", "q8_0", says="more")

    def test_a_failure_leaves_no_file_behind(self):
        out = self.path("x.gguf")
        self.expect(1, "convert", self.path("absent"), out, "--type", "q8_0", says="absent")
        self.expect(1, "convert", TARGET, out, "--type", "q8_0", "--no-embeddings", says="not a drafter")
        self.expect(1, "convert", TARGET, out, "--type", "q8_0", "--pre", "nonsense", says=["nonsense", "qwen2"])
        self.expect(1, "convert", TARGET, self.path("absent/x.gguf"), "--type", "q8_0", says="absent")
        with open(self.path("broken.gguf"), "wb") as file:
            file.write(b"GGUF\3\0\0\0")
        self.expect(1, "convert", self.path("broken.gguf"), out, "--type", "q8_0", says="cut off")
        self.assertEqual(os.listdir(self.folder), ["broken.gguf"])


if __name__ == "__main__":
    main()
