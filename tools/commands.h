// The subcommands, by subject.
#ifndef UNTORN_TOOLS_COMMANDS_H_
#define UNTORN_TOOLS_COMMANDS_H_

#include <vector>

#include "tools/command_line.h"

namespace untorn::tools {

std::vector<Command> StoreCommands();     // create, info, stats, scrub
std::vector<Command> TopCommands();       // top
std::vector<Command> ObjectCommands();    // ls, rm, mv, truncate
std::vector<Command> TransferCommands();  // put, get, write, read
std::vector<Command> InspectCommands();   // dump, fsck

}  // namespace untorn::tools

#endif  // UNTORN_TOOLS_COMMANDS_H_
