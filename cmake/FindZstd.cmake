# Finds the static zstd library and defines Zstd::static and Zstd_VERSION.
#
# Static, because the wheel must not depend on the zstd of the machine it runs on, and because the engine uses
# parameters that zstd guarantees only to programs that link it statically.

find_path(Zstd_INCLUDE_DIR zstd.h)
find_library(Zstd_LIBRARY libzstd.a)
mark_as_advanced(Zstd_INCLUDE_DIR Zstd_LIBRARY)

if(NOT Zstd_INCLUDE_DIR OR NOT Zstd_LIBRARY)
  # The leading blank keeps CMake from wrapping the line.
  message(FATAL_ERROR " zstd.h or libzstd.a was not found: run 'apt-get install libzstd-dev' (Debian, Ubuntu) or 'dnf install libzstd-devel libzstd-static' (Fedora, RHEL)")
endif()

file(STRINGS "${Zstd_INCLUDE_DIR}/zstd.h" _lines REGEX "^#define ZSTD_VERSION_(MAJOR|MINOR|RELEASE) +[0-9]+")
string(REGEX REPLACE "[^0-9;]" "" _numbers "${_lines}")
list(JOIN _numbers "." Zstd_VERSION)

if(NOT TARGET Zstd::static)
  add_library(Zstd::static STATIC IMPORTED)
  set_target_properties(Zstd::static PROPERTIES
    IMPORTED_LOCATION "${Zstd_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${Zstd_INCLUDE_DIR}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Zstd REQUIRED_VARS Zstd_LIBRARY Zstd_INCLUDE_DIR VERSION_VAR Zstd_VERSION)
