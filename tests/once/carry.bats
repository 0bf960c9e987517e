#!/usr/bin/env bats
# Goal: uott-carry runs the right program where nothing is installed, and leaves nothing behind.
load ../helpers
bats_require_minimum_version 1.5.0

carry=$BATS_TEST_DIRNAME/../../examples/carry

setup_file() {
  cd "$BATS_FILE_TMPDIR" || return 1
  mkdir box
  busybox --install -s box
  # A login with these programs alone.
  start_sshd "SetEnv PATH=$PWD/box TMPDIR=$PWD"
}

teardown_file() {
  cd "$BATS_FILE_TMPDIR" || return 1
  stop_all
}

setup() {
  cd "$BATS_TEST_TMPDIR" || return 1
  : >pids
  mkdir far
  export XDG_RUNTIME_DIR=$PWD/far
  start_peer target echo
  target=$port
}

# Nothing of a carried program is left: no file, and no process with the address of the target.
nothing_is_left() {
  [ -z "$(ls -A far)" ] && ! pgrep -f "/self/fd/4 .*127.0.0.1:$target" >/dev/null
}

# carries TRANSPORT...: a datagram goes there and back. Then enc ends, and nothing is left.
carries() {
  start_enc enc 0 -- "$carry" "$@" -- -v "127.0.0.1:$target"
  expect_equal "$(ask "$port" "through $1")" "through $1"
  expect_said enc.err "uott-dec: flow 65535: new"
  [ -z "$(ls -A far)" ]
  kill "$pid"
  finish "$pid"
  expect_equal "$status" 0
  wait_until nothing_is_left
}

@test "through OpenSSH, to a login that has busybox alone" {
  # shellcheck disable=SC2046 # words
  carries $(ssh_to host)
  expect_equal "$(find "$BATS_FILE_TMPDIR" -name 'uott.*')" ""
}

@test "the other way round it carries uott-enc" {
  # shellcheck disable=SC2046 # words
  start dec "$dec" "127.0.0.1:$target" -- "$carry" -r $(ssh_to host) -- -v 0
  wait_until said dec.err "listening on"
  expect_equal "$(ask "$(listening_port dec.err)" back)" back
}

@test "with -r it is carried again when the transport dies" {
  # shellcheck disable=SC2046 # words
  start_enc enc -r0.05 0 -- "$carry" $(ssh_to host) -- "127.0.0.1:$target"
  expect_equal "$(ask "$port" one)" one
  pkill -9 -P "$pid" ssh
  wait_until said enc.err "running it again"
  answers() { [ "$(printf two | timeout 1 "$peer" send 127.0.0.1 "$port")" = two ]; }
  wait_until answers
}

@test "the far shell may be dash, busybox ash or mksh, and the arguments may be any" {
  for shell in dash mksh busybox; do
    mkdir "$shell"
    ln -s "$(command -v $shell)" "$shell/sh"
    carries env "PATH=$PWD/$shell:$PATH"
  done
  run -2 "$carry" env -- -v "it's; \$HOME" 'a "b"'
  [[ $output == *"uott-dec: bad address 'it's; \$HOME a \"b\"': "* ]]
}

@test "ps and top show the name of the carried program" {
  start_enc enc 0 -- "$carry" env -- "127.0.0.1:$target"
  ask "$port" hello
  expect_equal "$(cat "/proc/$(pgrep -f "^/proc/self/fd/4 127.0.0.1:$target")/comm")" uott-dec
}

# Run in a mount namespace: a home with the key, for a dropbear that knows no other place.
home_for_dropbear() {
  mkdir -m 700 home home/.ssh
  cp "$BATS_FILE_TMPDIR/user_key.pub" home/.ssh/authorized_keys
  mount --bind home "$HOME"
  exec dropbear -F -E -s -p "127.0.0.1:$1" -r dropbear_key -P dropbear.pid
}

@test "through a dropbear server" {
  dropbearkey -t ed25519 -f dropbear_key >/dev/null 2>&1
  ssh_port=$("$peer" free-port)
  export -f home_for_dropbear
  export BATS_FILE_TMPDIR
  # shellcheck disable=SC2046 # words
  start dropbear $(own_mounts) bash -c "home_for_dropbear $ssh_port"
  wait_until said dropbear.err "Not backgrounding"
  carries ssh -T -F "$BATS_FILE_TMPDIR/ssh_config" -p "$ssh_port" -o UserKnownHostsFile=/dev/null \
    -o StrictHostKeyChecking=no host
}

@test "into a container whose root holds busybox alone, without /proc" {
  mkdir -p root/bin root/tmp
  cp "$(command -v busybox)" root/bin
  # shellcheck disable=SC2046 # words
  $(own_mounts) chroot root /bin/busybox --install -s /bin
  # shellcheck disable=SC2046 # words
  start_enc enc 0 -- "$carry" env -u XDG_RUNTIME_DIR $(own_mounts) chroot root -- "127.0.0.1:$target"
  expect_equal "$(ask "$port" hello)" hello
  tmp_is_empty() { [ -z "$(ls -A root/tmp)" ]; }
  wait_until tmp_is_empty
}

@test "a stand-in for kubectl gets -- in front of the shell, whether the user wrote one or not" {
  # shellcheck disable=SC2016 # for sh
  printf '#!/bin/sh\n[ "$*" = "exec -i POD -- sh" ] && exec sh\necho "got $*" >&2; exit 1\n' >kubectl
  chmod +x kubectl
  carries "$PWD/kubectl" exec -i POD
  carries "$PWD/kubectl" exec -i POD --
}

@test "a stand-in for adb, which joins its words for a shell, gets one word" {
  # shellcheck disable=SC2016 # for sh
  printf '#!/bin/sh\n[ "$1 $2" = "shell -T" ] && shift 2 && exec sh -c "$*"\n' >adb
  chmod +x adb
  carries "$PWD/adb" shell -T
}

@test "what a login says first, on both outputs, does no harm" {
  # shellcheck disable=SC2016 # for sh
  carries sh -c 'echo Welcome; printf "Have fun. " >&2; exec "$@"' sh
  expect_said enc.err 'skipped 8 bytes that are no frame: "Welcome\n"'
}

@test "where no folder lets a program run, it says so and ends with status 126" {
  # shellcheck disable=SC2016 # for the shell in the mount namespace
  hide='for folder in "$XDG_RUNTIME_DIR" /tmp /dev/shm "$HOME"; do mount -t tmpfs -o noexec tmpfs "$folder"; done
    exec sh'
  # shellcheck disable=SC2046 # words
  run -126 "$enc" -r 127.0.0.1:0 -- env -u TMPDIR "$carry" $(own_mounts) sh -c "$hide" -- 127.0.0.1:9
  [[ $output == *"uott-carry: no folder on the far side lets a program run"* ]]
}

@test "a far side of an unknown kind is named, and nothing is run" {
  mkdir bin
  printf '#!/bin/sh\necho pdp11\n' >bin/uname
  chmod +x bin/uname
  run -126 "$enc" 127.0.0.1:0 -- "$carry" env "PATH=$PWD/bin:$PATH" -- 127.0.0.1:9
  [[ $output == *"uott-carry: no program for a far side of pdp11: cannot read "*"/pdp11/uott-dec"* ]]
  nothing_is_left
}

@test "a transport without a shell behind it, and wrong usage, have clear messages" {
  run -1 "$enc" 127.0.0.1:0 -- "$carry" true -- 127.0.0.1:9
  [[ $output == *"uott-carry: no shell has answered; docker, podman and kubectl need -i"* ]]
  for line in "" "-- 127.0.0.1:9" "ssh host 127.0.0.1:9"; do
    # shellcheck disable=SC2086 # words
    run -2 "$carry" $line
    [[ $output == *"expected TRANSPORT... -- ARGUMENT..."* ]]
  done
  run -2 "$carry" -x ssh
  [[ $output == *"unknown option '-x'"* ]]
  run -0 "$carry" --help
  [[ $output == "Usage: uott-carry"* ]]
}

# The script has about 1,100 bytes, the program has 130,000.
@test "a connection that is cut anywhere runs nothing and leaves nothing" {
  for bytes in 0 1 300 1000 1300 1500 2000 60000 120000; do
    # shellcheck disable=SC2016 # for sh
    run "$enc" 127.0.0.1:0 -- "$carry" sh -c 'dd bs=1 count="$0" 2>/dev/null | "$@"' "$bytes" -- -v "127.0.0.1:$target"
    [[ $output != *"uott-dec: "* ]]
    wait_until nothing_is_left
  done
}

@test "when ssh is killed at any moment of the start, no file and no process is left" {
  no_file_is_left() { [ -z "$(find "$BATS_FILE_TMPDIR" -name 'uott.*')" ] && nothing_is_left; }
  mkfifo frames
  exec 9<>frames # so that they do not end
  for pauses in 0 2 4 6 8 10 12 14 16 18 20 25 30; do
    # shellcheck disable=SC2046 # words
    start far env TMPDIR="$PWD" "$carry" $(ssh_to host) -- "127.0.0.1:$target" <frames
    for _ in $(seq "$pauses"); do pause; done
    kill -9 "$pid"
    finish "$pid"
    wait_until no_file_is_left
  done
  exec 9>&-
  no_feeder() { ! pgrep -f "carry .*-- 127.0.0.1:$target" >/dev/null; }
  wait_until no_feeder
}
