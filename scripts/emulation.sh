# Sourced by the scripts that try hob on a board that QEMU emulates, after packages.sh.
# shellcheck shell=bash

BOARD=$ARM64_BUILD/board
KERNEL=linux-image-arm64
# Longest time on one board. Emulation is some tens of times slower than the machine it runs on.
BOARD_MINUTES=30
# The last line of a board on which nothing failed.
PASSED="hob-board: passed"

# The engine that a processor must get; nothing for one that is not known here.
best_level() {
  case $1 in
    cortex-a53 | cortex-a72) echo armv8.0 ;;
    cortex-a76) echo armv8.2 ;;
    max) echo armv8.6 ;;
  esac
}

# apt-get with a state of its own: this machine need not know the architecture.
arm64_apt() {
  local state=$BOARD/apt
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
  "$1" -qq -o Dir::State="$state" -o Dir::State::lists="$state/lists" \
    -o Dir::State::status=/dev/null -o Dir::Cache="$state/cache" -o APT::Sandbox::User=root \
    -o APT::Architecture=arm64 -o APT::Architectures=arm64 "${@:2}"
}

# Downloads a kernel and busybox for a board, and unpacks them to $BOARD/debian.
debian_kernel() {
  [[ -f $BOARD/debian/bin/busybox ]] && return
  arm64_apt apt-get update
  # The package is empty, and depends on that of the newest version.
  local kernel
  kernel=$(arm64_apt apt-cache depends "$KERNEL" | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p')
  mkdir -p "$BOARD/packages"
  (cd "$BOARD/packages" && arm64_apt apt-get download "$kernel" busybox-static)
  local package
  for package in "$BOARD"/packages/linux-image-*.deb "$BOARD"/packages/busybox-static_*.deb; do
    dpkg-deb -x "$package" "$BOARD/debian"
  done
}

# Starts a board with so much memory and this content, and waits until it is off. What it writes is in
# $BOARD/CPU.log.
emulate() {
  local cpu=$1 memory=$2 image=$3 options=$4 log=$BOARD/$1.log
  say "On $cpu; the board's output is in $log"
  # QEMU ends alike whatever happened on the board: what counts is a line that it wrote.
  timeout --foreground "${BOARD_MINUTES}m" qemu-system-aarch64 \
    -M virt -cpu "$cpu" -smp 2 -m "$memory" -nographic -nic none -no-reboot \
    -kernel "$BOARD"/debian/boot/vmlinuz-* -initrd "$image" \
    -append "console=ttyAMA0 quiet panic=-1 $options" </dev/null \
    | stdbuf -oL tr -d '\r' | tee "$log" \
    || say "The board did not end by itself."
  grep -qx "$PASSED" "$log" || die "not all passed on $cpu"
}
