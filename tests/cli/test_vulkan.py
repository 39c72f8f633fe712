"""Whole models on a Vulkan device, software included, say what they say on device cpu. Skipped where there is no such device."""
import os
import unittest

from cli import DRAFTER, TARGET, CliTest, dspark, main

MODULES = ["--modules", os.environ["DSPARK_VULKAN_MODULES"]]
LENGTH = ["--tokens", "1,2,3", "-n", "24", "--ignore-eos", "--seed", "3"]


def device_is_there():
    return any(line.split()[:1] == ["vulkan:0"] for line in dspark("devices", *MODULES).out.splitlines())


@unittest.skipUnless(device_is_there(), "no Vulkan device: install mesa-vulkan-drivers for one in software")
class Vulkan(CliTest):
    def expect_same(self, device, *options):
        here = self.run_json("--device", "cpu", *LENGTH, *options)
        there = self.run_json("--device", device, *MODULES, *LENGTH, *options)
        self.assertEqual(there["device"], device)
        self.assertEqual(there["tokens"], here["tokens"])
        self.assertEqual(there["rounds"], here["rounds"])
        return there

    def test_a_greedy_answer_is_that_of_the_processor(self):
        self.expect_same("vulkan:0", "--spec", "off")

    def test_a_drafted_and_sampled_answer_is_that_of_the_processor(self):
        self.expect_same("vulkan:0", "-d", DRAFTER, "--spec", "fixed:7", "--temp", "0.8", "--top-k", "40", "--top-p", "0.95")

    def test_target_and_drafter_may_lie_on_different_devices(self):
        drafted = ["-d", DRAFTER, "--spec", "fixed:3"]
        result = self.expect_same("vulkan:0", *drafted, "--draft-device", "cpu")
        self.assertEqual(result["draft_device"], "cpu")
        back = self.run_json("--device", "cpu", "--draft-device", "vulkan:0", *MODULES, *LENGTH, *drafted)
        self.assertEqual(back["tokens"], result["tokens"])

    PENALTIES = ["--repeat-penalty", "1.3", "--presence-penalty", "0.5", "--frequency-penalty", "0.2", "--penalty-window", "16"]
    BIASES = ["--logit-bias", "77:4", "--logit-bias", "5:-1000"]
    SAMPLED = ["-d", DRAFTER, "--spec", "fixed:7", "--temp", "0.9", "--top-p", "0.95"]

    def test_rejection_sampling_gives_the_tokens_of_the_processor(self):
        self.expect_same("vulkan:0", *self.SAMPLED, "--sampling", "rejection")

    def test_rejection_sampling_with_penalties_gives_the_tokens_of_the_processor(self):
        self.expect_same("vulkan:0", *self.SAMPLED, "--sampling", "rejection", *self.PENALTIES, *self.BIASES)

    def test_coupled_sampling_with_penalties_and_biases_gives_the_tokens_of_the_processor(self):
        self.expect_same("vulkan:0", *self.SAMPLED, *self.PENALTIES, *self.BIASES)
        self.expect_same("vulkan:0", "--spec", "off", *self.PENALTIES, *self.BIASES)

    def test_a_drafter_with_a_restricted_head_drafts_and_says_what_it_does_on_the_processor(self):
        self.expect_same("vulkan:0", *self.SAMPLED, "--sampling", "rejection", "--draft-top-k", "32")

    def test_a_device_that_fails_its_self_test_is_used_only_with_fast_numerics(self):
        """The test is told to expect something else of a device that is right, so that its tokens are the processor's all the same."""
        inexact = {"DSPARK_VULKAN": "no-exact"}
        options = ["run", "-m", TARGET, "--json", *MODULES, *LENGTH, "--spec", "off"]
        says = "device 'vulkan:0' fails the self-test of the numerics contract (a product gives "
        self.assertIn("a product gives ", self.expect(0, "devices", *MODULES, env=inexact).out)
        self.expect(1, *options, "--device", "vulkan:0", env=inexact, says=says)
        self.expect(1, *options, "--device", "vulkan:0", "--numerics", "exact", env=inexact, says="--numerics fast")
        used = self.expect(0, *options, "--device", "vulkan:0", "--numerics", "fast", env=inexact)
        self.assertIn("tokens may differ", used.err)
        self.assertEqual(used.json()["tokens"], self.run_json("--device", "cpu", *LENGTH, "--spec", "off")["tokens"])
        drafted = ["-d", DRAFTER, "--device", "cpu", "--draft-device", "vulkan:0"]
        self.expect(1, "run", "-m", TARGET, "--json", *MODULES, *LENGTH, *drafted, env=inexact, says=says)
        unasked = self.expect(0, *options, "--numerics", "fast", env=inexact)
        self.assertNotIn("vulkan", unasked.json()["device"])

    def test_the_validation_layer_has_nothing_to_say(self):
        """It prints to standard output, where only the one object may be. Without the layer this shows less."""
        layer = {"VK_INSTANCE_LAYERS": "VK_LAYER_KHRONOS_validation", "VK_LAYER_ENABLES": "VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT"}
        result = self.expect(0, "run", "-m", TARGET, "-d", DRAFTER, "--json", "--device", "vulkan:0", *MODULES, *LENGTH, "--spec", "fixed:7", env=layer)
        self.assertEqual(len(result.json()["tokens"]), 24)
        self.assertEqual(result.err, "")


if __name__ == "__main__":
    main()
