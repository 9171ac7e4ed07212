# Sourced by the scripts that need hob-engine for each kind of processor, after packages.sh.
# shellcheck shell=bash

# A cargo folder for each level that was built.
ENGINES=$PWD/target/engines

# The levels of an architecture from the least to the best, as hob_ipc::kernels::Level names them.
engine_levels() {
  case $1 in
    amd64) echo x86-64-v2 x86-64-v3 x86-64-v3-vnni x86-64-v4-vnni ;;
    arm64) echo armv8.0 armv8.2 armv8.6 ;;
  esac
}

# What ggml is told of a level. Each switch of x86-64 is given, as what is not has a default that
# depends on the environment.
ggml_switches() {
  local switch on=''
  case $1 in
    x86-64-v2) on="SSE42" ;;
    x86-64-v3) on="SSE42 AVX AVX2 FMA F16C BMI2" ;;
    x86-64-v3-vnni) on="SSE42 AVX AVX2 FMA F16C BMI2 AVX_VNNI" ;;
    x86-64-v4-vnni) on="SSE42 AVX AVX2 FMA F16C BMI2 AVX512 AVX512_VBMI AVX512_VNNI" ;;
    armv8.0) echo GGML_CPU_ARM_ARCH=armv8-a && return ;;
    armv8.2) echo GGML_CPU_ARM_ARCH=armv8.2-a+dotprod+fp16 && return ;;
    armv8.6) echo GGML_CPU_ARM_ARCH=armv8.2-a+dotprod+fp16+i8mm && return ;;
  esac
  for switch in SSE42 AVX AVX_VNNI AVX2 FMA F16C BMI2 AVX512 AVX512_VBMI AVX512_VNNI AVX512_BF16; do
    if [[ " $on " == *" $switch "* ]]; then echo "GGML_$switch=ON"; else echo "GGML_$switch=OFF"; fi
  done
}

# The level of the engine that is built with the other programs, without any switch.
plain_level() {
  case $1 in
    amd64) echo x86-64-v3 ;;
    arm64) echo armv8.0 ;;
  esac
}

# Where a level's engine is once it is built.
engine_of() {
  case $1 in
    arm*) echo "$ENGINES/$1/$ARM64/release/hob-engine" ;;
    *) echo "$ENGINES/$1/release/hob-engine" ;;
  esac
}

# Builds a level's engine. CMake's folders can't be moved, so all are built at one path and kept at
# others; a new one begins as a copy of another, of which it compiles anew what the level changes: ggml's
# kernels, a fifth of llama.cpp.
build_engine() {
  local arch=$1 level=$2 build=$ENGINES/build other
  local -a switches
  mapfile -t switches < <(ggml_switches "$level")
  mkdir -p "$ENGINES"
  if [[ -d $ENGINES/$level ]]; then
    rm -rf "$build"
    mv "$ENGINES/$level" "$build"
  elif [[ ! -d $build ]]; then
    for other in $(engine_levels "$arch"); do
      if [[ -d $ENGINES/$other ]]; then
        cp -a "$ENGINES/$other" "$build"
        break
      fi
    done
  fi
  # The binding configures a folder once, whatever the switches are later.
  if ! cmp -s <(printf '%s\n' "${switches[@]}") "$build/switches"; then
    mkdir -p "$build"
    find "$build" -path '*/llama-cpp-sys-2-*/out/build/CMakeCache.txt' -delete
    printf '%s\n' "${switches[@]}" >"$build/switches"
  fi
  (
    # With it, ggml's defaults and its compiler's are others.
    unset SOURCE_DATE_EPOCH
    export "${switches[@]}"
    case $arch in
      amd64) CARGO_TARGET_DIR=$build cargo build --locked --release -p hob-engine ;;
      arm64)
        export CMAKE_PROJECT_INCLUDE=$PWD/scripts/arm-arch.cmake
        ARM64_BUILD=$build cross build -p hob-engine
        ;;
    esac
  )
  mv "$build" "$ENGINES/$level"
}
