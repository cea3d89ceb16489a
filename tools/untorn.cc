#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <iterator>
#include <vector>

#include "tools/command_line.h"
#include "tools/commands.h"

int main(int argc, char* argv[]) {
  // Where a standard stream is closed, the next file opened would take its place. What is opened here fails as the
  // closed one would.
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(stream, F_GETFD) < 0) (void)open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
  // A file beyond RLIMIT_FSIZE is an error like others.
  std::signal(SIGXFSZ, SIG_IGN);
  std::vector<untorn::tools::Command> commands;
  for (auto& group :
       {untorn::tools::StoreCommands(), untorn::tools::TopCommands(), untorn::tools::ObjectCommands(),
        untorn::tools::TransferCommands(), untorn::tools::InspectCommands()}) {
    commands.insert(commands.end(), group.begin(), group.end());
  }
  const std::vector<const char*> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  try {
    return untorn::tools::RunCommandLine(commands, arguments);
  } catch (const std::exception& error) {  // Out of memory, for one.
    std::fprintf(stderr, "untorn: %s\n", error.what());
    return untorn::tools::kExitFailed;
  }
}
