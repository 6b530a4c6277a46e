// Takes the place of file_io_uring.cpp in builds without liburing.
#include "io/file_io.h"

namespace sucrose {

std::unique_ptr<IoBackend> try_make_uring_backend(std::size_t, std::string &why_not) {
    why_not = "this build has no liburing";
    return nullptr;
}

} // namespace sucrose
