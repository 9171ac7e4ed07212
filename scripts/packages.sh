# Sourced by the other scripts: what must be installed on the machine before hob can be built.
# shellcheck shell=bash

# A shell of cron or of a container may lack it; cargo and hob need it.
: "${HOME:=$(getent passwd "$EUID" | cut -d: -f6)}"
export HOME

# The package that gives each program or header, wherever something else gives it already.
missing_packages() {
  local what
  for what in "$@"; do
    case $what in
      compiler) command -v g++ >/dev/null && command -v make >/dev/null || echo build-essential ;;
      cmake) command -v cmake >/dev/null || echo cmake ;;
      libclang) has_libclang || echo libclang-dev ;;
      pip) python3 -m pip --version >/dev/null 2>&1 || echo python3-pip ;;
      venv) python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv ;;
      faketime) command -v faketime >/dev/null || echo faketime ;;
      dbus-daemon) command -v dbus-daemon >/dev/null || echo dbus ;;
      busctl) command -v busctl >/dev/null || echo systemd ;;
      gdbus) command -v gdbus >/dev/null || echo libglib2.0-bin ;;
      arm64-compiler) command -v aarch64-linux-gnu-g++ >/dev/null || echo g++-aarch64-linux-gnu ;;
      qemu-x86_64-static | qemu-aarch64-static) command -v "$what" >/dev/null || echo qemu-user-static ;;
      qemu-system-aarch64) command -v "$what" >/dev/null || echo qemu-system-arm ;;
      glslc) command -v "$what" >/dev/null || echo glslc ;;
      vulkan-loader) [[ -f /usr/include/vulkan/vulkan.hpp ]] || echo libvulkan-dev ;;
      spirv-headers) [[ -f /usr/include/spirv/unified1/spirv.hpp ]] || echo spirv-headers ;;
      vulkan-emulation) compgen -G "/usr/share/vulkan/icd.d/lvp_icd*.json" >/dev/null || echo mesa-vulkan-drivers ;;
      dpkg-shlibdeps) command -v "$what" >/dev/null || echo dpkg-dev ;;
      xmllint) command -v "$what" >/dev/null || echo libxml2-utils ;;
      systemd-analyze) command -v "$what" >/dev/null || echo systemd ;;
      systemd-nspawn) command -v "$what" >/dev/null || echo systemd-container ;;
      tmux | shellcheck | cpio | curl | lintian | debootstrap) command -v "$what" >/dev/null || echo "$what" ;;
      *) die "no package is known for $what" ;;
    esac
  done
}

# bindgen, which the llama.cpp binding uses, looks for libclang in these places too. It needs the
# C interface, which libclang-cpp does not have, and clang's own headers, which libclang1 alone,
# come with other packages such as doxygen, does not have.
has_libclang() {
  local folder
  if [[ ${LIBCLANG_PATH:-} ]] && holds_libclang "$LIBCLANG_PATH"; then
    return
  fi
  for folder in /usr/lib/llvm-*/lib; do
    holds_libclang "$folder" && compgen -G "$folder/clang/*/include/stddef.h" >/dev/null && return
  done
  compgen -G "/usr/lib*/clang/*/include/stddef.h" >/dev/null || return
  for folder in /usr/lib/*-linux-gnu /usr/lib /usr/lib64; do
    holds_libclang "$folder" && return
  done
  return 1
}

holds_libclang() {
  compgen -G "$1/libclang[.-]*" | grep -v '/libclang-cpp' | grep -q '\.so'
}

# Installs the packages that give the programs named, if one is missing.
install_missing() {
  local -a packages
  mapfile -t packages < <(missing_packages "$@")
  if ((${#packages[@]} == 0)); then
    return
  fi
  say "Missing on this machine: ${packages[*]}"
  command -v apt-get >/dev/null \
    || die "these are Debian's names; install the like with this system's package tool, then try again"
  local -a root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "as root, run: apt-get install ${packages[*]}"
    say "Installing them with apt-get, for which sudo may ask for your password."
    root=(sudo)
  else
    say "Installing them with apt-get."
  fi
  "${root[@]}" apt-get -qq update
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${packages[@]}" >/dev/null
  mapfile -t packages < <(missing_packages "$@")
  # Such as pip, if another python3 than Debian's comes first on the PATH.
  ((${#packages[@]} == 0)) \
    || die "${packages[*]} is installed and yet not found: see \`type -a cmake g++ python3\`"
}

# Where this machine gets packages of a suite of Debian.
mirror() {
  # shellcheck disable=SC2016 # apt-get's own variables.
  apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' \
    | sed -n "s/^$1 //p" | head -n1
}

# Ends unless there is a cargo that is new enough for this tree.
require_cargo() {
  local needed have
  needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  # First, as rustup has it: Debian's own cargo may be too old.
  PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
  if ! command -v cargo >/dev/null; then
    die "cargo is missing; hob needs Rust $needed or later: see https://rustup.rs"
  fi
  have=$(cargo --version | cut -d' ' -f2)
  if [[ $(printf '%s\n' "$needed" "$have" | sort -V | head -n1) != "$needed" ]]; then
    die "cargo is $have, but hob needs Rust $needed or later: see https://rustup.rs"
  fi
}

# Files that root makes in somebody else's tree are a nuisance that outlives the script.
require_own_tree() {
  local owner
  owner=$(stat -c %U .)
  [[ -O . ]] || die "this folder belongs to $owner; run this as $owner (sudo is asked for where it is needed)"
}

TOOLS=$PWD/target/tools

# Installs a cargo tool of exactly this version below target/.
cargo_tool() {
  local name=$1 version=$2
  if [[ $("$TOOLS/bin/$name" --version 2>/dev/null) != *"$version"* ]]; then
    # Without optimization: compiling takes much longer than running.
    cargo install --locked --debug --root "$TOOLS" "${@:3}" "$name@$version"
  fi
}

ARM64=aarch64-unknown-linux-gnu
ARM64_BUILD=$PWD/target/arm64
ARM64_SYSROOT=/usr/aarch64-linux-gnu

require_arm64() {
  [[ -d $(rustc --print target-libdir --target "$ARM64") ]] || rustup target add "$ARM64"
}

# cargo for a board; $ARM64_BUILD is apart from target/release, so that neither waits for the other.
cross() {
  env \
    CARGO_TARGET_DIR="$ARM64_BUILD" \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \
    CXX_aarch64_unknown_linux_gnu=aarch64-linux-gnu-g++ \
    BINDGEN_EXTRA_CLANG_ARGS_aarch64_unknown_linux_gnu="--sysroot=$ARM64_SYSROOT -I$ARM64_SYSROOT/include" \
    cargo "$@" --locked --release --target "$ARM64"
}

say() { printf '%s\n' "$*" >&2; }

die() {
  say "error: $*"
  exit 1
}
