// The native test program: doctest's own main.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

// The standard library counts references to exceptions where ThreadSanitizer does not see it, and
// then seems to delete one that another thread has just read.
extern "C" [[gnu::visibility("default")]] const char *__tsan_default_suppressions() {
    return "race:std::__exception_ptr::exception_ptr::_M_release\n";
}
