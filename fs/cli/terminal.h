// The person at the terminal: how far the work is, Ctrl-C, and names that are printed.
#pragma once

#include <atomic>
#include <functional>
#include <string>

#include "replicator/restore.h"

namespace walfs {

// From now on SIGINT and SIGTERM set the flag, which lives as long as the program, and end nothing.
const std::atomic<bool>* catch_interrupts();

// Draws one line over itself. Nothing where standard error is no terminal.
std::function<void(const RestoreProgress&)> progress_on_terminal();

// Names are not trusted: nothing in them is to be taken for a command by a terminal.
std::string printable(std::string text);

}  // namespace walfs
