# libnuwa, and what `cmake --install` gives: the program, the models, libnuwa static and shared, its header, and the files
# by which pkg-config and CMake find it.  Everything is found relative to where it lies, so that an installed tree may be
# moved.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(objects $<TARGET_OBJECTS:nuwa_base> $<TARGET_OBJECTS:nuwa_text> $<TARGET_OBJECTS:nuwa_runtime>)

add_library(nuwa_shared SHARED ${objects})
target_link_libraries(nuwa_shared PRIVATE m Threads::Threads ${CMAKE_DL_LIBS})
target_link_options(nuwa_shared PRIVATE LINKER:--version-script=${CMAKE_SOURCE_DIR}/cmake/libnuwa.map LINKER:--gc-sections)
if(NOT NUWA_SANITIZE)
  target_link_options(nuwa_shared PRIVATE LINKER:-z,defs)
endif()
set_target_properties(nuwa_shared PROPERTIES
  OUTPUT_NAME nuwa VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} LINKER_LANGUAGE C
  LINK_DEPENDS ${CMAKE_SOURCE_DIR}/cmake/libnuwa.map)

# One object whose hidden symbols are local: nothing of ours can clash with a user's names.
set(archive ${CMAKE_BINARY_DIR}/libnuwa.a)
set(object ${CMAKE_BINARY_DIR}/libnuwa.o)
add_custom_command(OUTPUT ${archive}
  COMMAND ${CMAKE_LINKER} -r ${objects} -o ${object}
  COMMAND ${CMAKE_OBJCOPY} --localize-hidden ${object}
  COMMAND ${CMAKE_COMMAND} -E rm -f ${archive}
  COMMAND ${CMAKE_AR} rcs ${archive} ${object}
  DEPENDS ${objects} COMMENT "Making libnuwa.a" VERBATIM COMMAND_EXPAND_LISTS)
add_custom_target(nuwa_static ALL DEPENDS ${archive})

# Installed, the program finds its models from its own folder.
file(RELATIVE_PATH models_from_program ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_DATADIR}/nuwa/models)
target_compile_definitions(nuwa PRIVATE NUWA_MODELS_FROM_PROGRAM="${models_from_program}")
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/nuwa)
file(RELATIVE_PATH prefix_from_pc ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
file(RELATIVE_PATH libdir_from_prefix ${CMAKE_INSTALL_PREFIX} ${CMAKE_INSTALL_FULL_LIBDIR})
file(RELATIVE_PATH includedir_from_prefix ${CMAKE_INSTALL_PREFIX} ${CMAKE_INSTALL_FULL_INCLUDEDIR})
configure_file(cmake/nuwa.pc.in ${CMAKE_BINARY_DIR}/nuwa.pc @ONLY)
configure_package_config_file(cmake/nuwaConfig.cmake.in ${CMAKE_BINARY_DIR}/nuwaConfig.cmake
  INSTALL_DESTINATION ${package_folder} PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/nuwaConfigVersion.cmake COMPATIBILITY SameMinorVersion)

install(TARGETS nuwa RUNTIME)
install(TARGETS nuwa_shared LIBRARY)
install(FILES ${archive} DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES runtime/include/nuwa.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY models/ DESTINATION ${CMAKE_INSTALL_DATADIR}/nuwa/models)
install(FILES ${CMAKE_BINARY_DIR}/nuwa.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${CMAKE_BINARY_DIR}/nuwaConfig.cmake ${CMAKE_BINARY_DIR}/nuwaConfigVersion.cmake DESTINATION ${package_folder})
