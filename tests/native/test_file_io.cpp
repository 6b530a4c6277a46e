#include <doctest/doctest.h>

#include <cerrno>

#include "io/file_io.h"

namespace {

using sucrose::advance;
using sucrose::IoRequest;
using sucrose::IoStep;

IoRequest request(std::size_t nbytes, std::size_t required_nbytes, std::size_t alignment) {
    IoRequest request{};
    request.kind = IoRequest::Kind::read;
    request.nbytes = nbytes;
    request.required_nbytes = required_nbytes;
    request.alignment = alignment;
    return request;
}

} // namespace

TEST_CASE("a transfer goes on after an interruption and ends when it is complete") {
    IoRequest whole = request(8192, 8192, 1);
    int error = -1;
    CHECK(advance(whole, -EINTR, error) == IoStep::again);
    CHECK(advance(whole, -EAGAIN, error) == IoStep::again);
    CHECK(advance(whole, 1, error) == IoStep::again);
    CHECK(whole.transferred == 1);
    CHECK(advance(whole, 8191, error) == IoStep::finished);
    CHECK(error == 0);
}

TEST_CASE("a short direct transfer goes on from a whole block") {
    IoRequest direct = request(16384, 16384, 4096);
    int error = -1;
    CHECK(advance(direct, 4095, error) == IoStep::again);
    CHECK(direct.transferred == 0);
    CHECK(advance(direct, 10000, error) == IoStep::again);
    CHECK(direct.transferred == 8192);
    CHECK(advance(direct, 8192, error) == IoStep::finished);
}

TEST_CASE("a read may end with the file, in the middle of its last block") {
    IoRequest tail = request(8192, 5000, 4096);
    int error = -1;
    CHECK(advance(tail, 5000, error) == IoStep::finished);
    CHECK(error == 0);
}

TEST_CASE("a file that ends early is an input/output error, and any other error is itself") {
    int error = 0;
    IoRequest early = request(8192, 8192, 1);
    CHECK(advance(early, 100, error) == IoStep::again);
    CHECK(advance(early, 0, error) == IoStep::failed);
    CHECK(error == EIO);
    IoRequest full = request(8192, 8192, 1);
    CHECK(advance(full, -ENOSPC, error) == IoStep::failed);
    CHECK(error == ENOSPC);
}
