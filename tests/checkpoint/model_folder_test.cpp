// SPDX-License-Identifier: Apache-2.0
#include "host/base/model_folder.h"

#include <sys/stat.h>

#include "host/base/files.h"
#include "tests/checkpoint/support.h"

namespace roundhouse {
namespace {

// The hub's cache as its tools lay it out, in a home folder of the test's own.
class ModelFolder : public testing::Test {
 protected:
  void SetUp() override {
    ::setenv("HOME", home_.path().c_str(), 1);
    for (const char* name : {"HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"}) ::unsetenv(name);
  }

  fs::path write(const fs::path& file, const std::string& text) const {
    fs::create_directories(file.parent_path());
    write_file(file, text);
    return file;
  }
  // Returns the snapshot, whose files are links into blobs.
  fs::path lay_out(const fs::path& cache, const std::string& repository, const std::string& commit) const {
    const fs::path root = cache / repository, snapshot = root / "snapshots" / commit;
    write(root / "blobs" / ("of" + commit), "{}");
    fs::create_directories(snapshot);
    fs::create_symlink("../../blobs/of" + commit, snapshot / "config.json");
    return snapshot;
  }

  const TempFolder home_;
  const fs::path cache_ = home_ / ".cache/huggingface/hub";
};

TEST_F(ModelFolder, AHubIdIsItsSnapshotInTheCache) {
  const fs::path main = lay_out(cache_, "models--org--name", "aaaa"),
                 other = lay_out(cache_, "models--org--name", "bbbb");
  write(cache_ / "models--org--name/refs/main", "aaaa");
  write(cache_ / "models--org--name/refs/v2", "bbbb\n");
  EXPECT_EQ(find_model("org/name"), main);
  EXPECT_EQ(find_model("org/name@v2"), other);
  EXPECT_EQ(find_model("org/name@bbbb"), other);
  EXPECT_EQ(find_model((cache_ / "models--org--name").string()), main) << "the cache's own folder of it";
  EXPECT_EQ(find_model(cache_.string()), main) << "there is no other in the cache";
  EXPECT_EQ(find_model("~/.cache/huggingface/hub/models--org--name/snapshots/bbbb"), other);
  EXPECT_EQ(fetch_hint(other), " Fetch it: hf download org/name --revision bbbb");
  EXPECT_EQ(fetch_hint(home_.path()), "");

  const fs::path plain = lay_out(cache_, "models--opt", "cccc");
  write(cache_ / "models--opt/refs/main", "cccc");
  EXPECT_EQ(find_model("opt"), plain);
  EXPECT_EQ(error_of([&] { find_model(cache_.string()); }),
            cache_.string() + " is a Hugging Face cache; name one of its models: opt, org/name");
}

TEST_F(ModelFolder, AFolderComesBeforeAHubId) {
  write(home_ / "org/name/config.json", "{}");
  EXPECT_EQ(find_model("org/name", home_ / "org/name"), home_ / "org/name");
}

TEST_F(ModelFolder, TheCacheIsWhereTheHubsToolsHaveIt) {
  for (const auto& [variable, cache] :
       {std::pair{"XDG_CACHE_HOME", "huggingface/hub"}, {"HF_HOME", "hub"}, {"HF_HUB_CACHE", ""}}) {
    const fs::path folder = home_ / variable;
    const fs::path snapshot = lay_out(folder / cache, "models--org--name", "aaaa");
    write(folder / cache / "models--org--name/refs/main", "aaaa");
    ::setenv(variable, folder.c_str(), 1);  // each goes before those set so far
    EXPECT_EQ(find_model("org/name"), snapshot) << variable;
  }
}

TEST_F(ModelFolder, WhatIsNotThereGetsTheCommandThatFetchesIt) {
  EXPECT_EQ(error_of([&] { find_model("org/name", "/models/org/name"); }),
            "there is no folder /models/org/name, and the Hugging Face cache " + cache_.string() +
                " has no org/name. Fetch it: hf download org/name");
  EXPECT_EQ(error_of([&] { find_model("org/name@v2", "/models/org/name@v2"); }),
            "there is no folder /models/org/name@v2, and the Hugging Face cache " + cache_.string() +
                " has no org/name of revision v2. Fetch it: hf download org/name --revision v2");
  EXPECT_EQ(error_of([&] { find_model("https://huggingface.co/org/name", "/models/https:/huggingface.co/org/name"); }),
            "there is no folder /models/https:/huggingface.co/org/name, and the Hugging Face cache " + cache_.string() +
                " has no org/name. Fetch it: hf download org/name");
  // Fetched by its commit alone.
  const fs::path fetched = lay_out(cache_, "models--org--name", "aaaa00");
  EXPECT_EQ(find_model((cache_ / "models--org--name").string()), fetched);
  EXPECT_EQ(find_model("org/name", "/models/org/name"), fetched);
  EXPECT_EQ(find_model("org/name@aaaa", "/models/org/name@aaaa"), fetched);
  lay_out(cache_, "models--org--name", "bbbb00");
  EXPECT_EQ(error_of([&] { find_model((cache_ / "models--org--name").string()); }),
            (cache_ / "models--org--name").string() +
                " is a repository in the Hugging Face cache, but its refs/main leads to no snapshot. Fetch it: hf "
                "download org/name");
  EXPECT_EQ(
      error_of([&] { find_model("org/name", "/models/org/name"); }),
      "the Hugging Face cache " + cache_.string() +
          " has org/name, but not of the revision main. It has aaaa00, bbbb00: name one, as in org/name@aaaa00, or "
          "fetch it: hf download org/name");
  for (const char* path : {"/models/name", "../org/name", "a/b/c", "org/my model"})
    EXPECT_EQ(error_of([&] { find_model(path); }), cat("there is no folder ", path));
}

TEST_F(ModelFolder, SaysHowItsWeightsAreQuantized) {
  const auto method = [&](const std::string& file, const std::string& text) {
    const fs::path folder = home_ / "model";
    fs::remove_all(folder);
    write(folder / file, text);
    return quantization_method(folder).value_or("none");
  };
  EXPECT_EQ(method("config.json", R"({"quantization_config": null})"), "none");
  EXPECT_EQ(method("config.json", R"({"quantization_config": {"quant_method": "torchao"}})"), "torchao");
  EXPECT_EQ(method("config.json", R"({"quantization_config": {"load_in_4bit": true}})"), "bitsandbytes");
  EXPECT_EQ(method("config.json", R"({"quantization_config": {"bits": 4}})"),
            "by a method that config.json does not name");
  EXPECT_EQ(method("config.json", R"({"quantization": {"group_size": 64, "bits": 4}})"), "mlx");
  EXPECT_EQ(method("config.json", R"({"quantization": {"group_size": 64, "bits": 4, "mode": "affine"},
                                      "quantization_config": {"group_size": 64, "bits": 4, "mode": "affine"}})"),
            "mlx");
  EXPECT_EQ(
      method("hf_quant_config.json", R"({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}})"),
      "modelopt FP8");
}

// Opening one waited for a writer for ever.
TEST_F(ModelFolder, APipeInPlaceOfAFileIsRefused) {
  const fs::path model = home_ / "model", pipe = model / "generation_config.json";
  write(model / "config.json", "{}");
  write(home_ / "blob", "{}");
  fs::create_symlink("../blob", model / "tokenizer.json");
  fs::create_symlink("../gone", model / "merges.txt");
  EXPECT_EQ(find_model(model.string()), model);
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  for (const fs::path& given : {model, pipe})
    EXPECT_EQ(error_of([&] { find_model(given.string()); }),
              pipe.string() +
                  " is a pipe, socket or device; a model consists of files. Remove it, or put the file in "
                  "its place");
  EXPECT_EQ(error_of([&] { read_json_object(pipe); }), pipe.string() + ": cannot be read: it is no regular file");
  fs::remove(pipe);
  fs::create_symlink("/dev/null", pipe);
  EXPECT_TRUE(contains(error_of([&] { find_model(model.string()); }), "is a pipe, socket or device"));
}

TEST_F(ModelFolder, ALinkToWhatIsGoneIsNamedAsOne) {
  const fs::path model = home_ / "model";
  fs::create_directories(model);
  fs::create_symlink("../gone", model / "config.json");
  EXPECT_EQ(error_of([&] { require_config(model); }),
            (model / "config.json").string() + " is a link to a file that is missing. Download it again.");
}

TEST_F(ModelFolder, AnAdapterIsNamedAsOne) {
  write(home_ / "lora/adapter_config.json", R"({"peft_type": "LORA", "base_model_name_or_path": "org/base"})");
  EXPECT_EQ(error_of([&] { require_config(home_ / "lora"); }),
            (home_ / "lora").string() +
                " is a LoRA adapter, not a model. Merge it into org/base with peft (merge_and_unload(), then "
                "save_pretrained(folder)), and give that folder");
  EXPECT_EQ(error_of([&] { require_config(home_ / "empty"); }),
            (home_ / "empty").string() + " has no config.json: a Hugging Face model folder is expected.");
}

TEST_F(ModelFolder, JsonMayHaveTheNumbersThatPythonWrites) {
  const fs::path file =
      write(home_ / "config.json", R"({"a": [0.0, Infinity], "b": NaN, "c": "NaN \" Infinity", "d": -Infinity})");
  EXPECT_EQ(read_json_object(file).dump(),
            R"({"a":[0.0,{"__float__":"Infinity"}],"b":{"__float__":"NaN"},"c":"NaN \" Infinity",)"
            R"("d":{"__float__":"-Infinity"}})");
  write(home_ / "config.json", R"({"a": Infinit})");
  EXPECT_TRUE(contains(error_of([&] { read_json_object(file); }), file.string() + ": is not valid JSON: "));
}

}  // namespace
}  // namespace roundhouse
