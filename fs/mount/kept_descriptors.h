// The descriptors of all inodes that the kernel knows, in the keeper's hands: an unlinked file that
// is still open can be reached by nothing else when the server is gone.
//
// They travel over a SOCK_SEQPACKET pair whose two ends the keeper holds, too, so that one on its
// way outlives both. A new server inherits number i as kKeptDescriptorBase + i.
#pragma once

#include <cstddef>
#include <cstdint>

namespace walfs {

constexpr int kKeptDescriptorBase = 1024;

// The server's side. Any thread; channel -1 keeps nothing. They wait while the channel is full.
void keep_descriptor(int channel, uint32_t number, int fd);
void drop_descriptor(int channel, uint32_t number);

// The keeper's side: takes all that has arrived and returns.
void receive_descriptors(int channel);

// Closes the inherited descriptors whose number is not wanted.
void close_unwanted_descriptors(bool (*wanted)(void* context, uint32_t number), void* context);

}  // namespace walfs
