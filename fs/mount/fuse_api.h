// The one place that includes libfuse. The version is the oldest we build with (3.10): later
// headers keep its signatures.
#pragma once

#define FUSE_USE_VERSION 35
#include <fuse3/fuse_lowlevel.h>

#define WALFS_LIBFUSE (FUSE_MAJOR_VERSION * 100 + FUSE_MINOR_VERSION)
