# Read by CMake in each project of llama.cpp, as scripts/engines.sh asks: the binding asks for armv8-a
# whatever the environment says.
set(GGML_CPU_ARM_ARCH "$ENV{GGML_CPU_ARM_ARCH}" CACHE STRING "" FORCE)
