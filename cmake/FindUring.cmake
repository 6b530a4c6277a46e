# Finds liburing, static where there is a choice, and defines Uring::uring and Uring_VERSION.
# Optional: without it Uring_FOUND is false and the threaded backend does all I/O.

find_path(Uring_INCLUDE_DIR liburing.h)
find_library(Uring_LIBRARY NAMES liburing.a uring)
get_filename_component(_library_dir "${Uring_LIBRARY}" DIRECTORY)
find_file(Uring_PC_FILE liburing.pc PATHS "${_library_dir}/pkgconfig" NO_DEFAULT_PATH)
mark_as_advanced(Uring_INCLUDE_DIR Uring_LIBRARY Uring_PC_FILE)

# Older releases tell their version in no header, only to pkg-config.
set(Uring_VERSION "unknown")
if(Uring_PC_FILE)
  file(STRINGS "${Uring_PC_FILE}" _line REGEX "^Version:")
  string(REGEX REPLACE "^Version: *" "" Uring_VERSION "${_line}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Uring REQUIRED_VARS Uring_LIBRARY Uring_INCLUDE_DIR)

if(Uring_FOUND AND NOT TARGET Uring::uring)
  add_library(Uring::uring UNKNOWN IMPORTED)
  set_target_properties(Uring::uring PROPERTIES
    IMPORTED_LOCATION "${Uring_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${Uring_INCLUDE_DIR}")
endif()
