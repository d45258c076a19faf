// SPDX-License-Identifier: Apache-2.0
// The program as a server: libtorch is loaded once, which takes half of a short run. Each line of standard input is a
// run, in a process of its own: a file for what it prints, then settings of the environment (NAME=value) and arguments,
// separated by tabs. Its status as wait() has it is the answer. With arguments it is the program itself.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  void* const program = dlopen(PROGRAM_LIBRARY, RTLD_NOW | RTLD_GLOBAL);
  auto* const run = program ? reinterpret_cast<int (*)(int, char**)>(dlsym(program, "roundhouse_main")) : nullptr;
  if (!run) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  if (argc > 1) return run(argc, argv);
  for (std::string line; std::getline(std::cin, line);) {
    const pid_t child = fork();
    if (child == 0) {
      std::istringstream words(line);
      std::string word;
      std::getline(words, word, '\t');
      const int output = open(word.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600), nothing = open("/dev/null", O_RDONLY);
      dup2(nothing, STDIN_FILENO);
      dup2(output, STDOUT_FILENO);
      dup2(output, STDERR_FILENO);
      close(output);
      close(nothing);
      std::vector<std::string> arguments{"roundhouse"};
      while (std::getline(words, word, '\t')) {
        const size_t equals = word.find('=');
        if (equals == word.npos || arguments.size() > 1)
          arguments.push_back(word);
        else
          setenv(word.substr(0, equals).c_str(), word.c_str() + equals + 1, 1);
      }
      std::vector<char*> pointers;
      for (std::string& argument : arguments) pointers.push_back(argument.data());
      pointers.push_back(nullptr);
      std::exit(run(static_cast<int>(arguments.size()), pointers.data()));
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) return 1;
    std::printf("%d\n", status);
    std::fflush(stdout);
  }
  return 0;
}
