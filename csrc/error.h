// Exceptions of the core. bindings.cpp is the one place that translates them to Python.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <system_error>

namespace sucrose {

class Error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// A system call failed. `operation` is its name ("pwrite"), `path` the file it was about.
class SystemError : public Error {
public:
    SystemError(int error_number, const char *operation, std::string path)
        : Error(std::string(operation) + " '" + path +
                "': " + std::generic_category().message(error_number)),
          error_number_(error_number), operation_(operation), path_(std::move(path)) {}

    int error_number() const noexcept { return error_number_; }
    const char *operation() const noexcept { return operation_; }
    const std::string &path() const noexcept { return path_; }

private:
    int error_number_;
    const char *operation_;
    std::string path_;
};

// The engine was asked for memory that the host does not have.
class OutOfMemory : public Error {
public:
    explicit OutOfMemory(std::size_t nbytes)
        : Error("cannot allocate " + std::to_string(nbytes) + " bytes for the buffer ring") {}
};

// A call of the CUDA driver failed. `code` is its CUresult.
class CudaFailure : public Error {
public:
    CudaFailure(int code, const std::string &what) : Error(what), code_(code) {}

    int code() const noexcept { return code_; }

private:
    int code_;
};

// The operation was cancelled before it was complete.
class Cancelled : public Error {
public:
    Cancelled() : Error("cancelled") {}
};

// The engine belongs to another process.
class ForkedProcess : public Error {
public:
    using Error::Error;
};

} // namespace sucrose
