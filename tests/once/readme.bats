#!/usr/bin/env bats
# Goal: each command of README.md does what it says, as it stands there. `host` is another network
# behind a real sshd. kubectl, docker and adb are stubs that run the command over there.
load ../helpers
bats_require_minimum_version 1.5.0

readme=$BATS_TEST_DIRNAME/../../README.md

setup_file() {
  cd "$BATS_FILE_TMPDIR" || return 1
  mkdir bin far_bin
  start_sshd "SetEnv PATH=$PWD/far_bin:$PATH SHELL=/bin/sh" "ForceCommand $PWD/bin/far_login"
  for network in far near; do
    start_network $network
    words_inside "$pid" >in_$network
    # shellcheck disable=SC2034 # start_dnsmasq uses it
    read -ra inside <in_$network
    start_dnsmasq 53
    mv dnsmasq.err $network.err
  done
  in_far=$(cat in_far)
  $in_far ip address add 10.0.0.5/32 dev lo
  start_relay
  sed 's/^Host .*/Host */' ssh_config >near_config
  echo "  ProxyCommand socat - UNIX-CONNECT:$PWD/sshd.socket" >>near_config
  ln -s "$BUILD"/uott-??? far_bin
  cp "$BATS_TEST_DIRNAME/../../examples/carry" bin/uott-carry
  # shellcheck disable=SC2016 # for the stub
  stub far_login "exec $in_far sh -c \"\$SSH_ORIGINAL_COMMAND\""
  stub ssh "exec $(command -v ssh) -F $PWD/near_config \"\$@\""
  stub kubectl "[ \"\$*\" = 'exec -i POD -- sh' ] && exec $in_far sh"
  stub docker "[ \"\$*\" = 'exec -i CONTAINER sh' ] && exec $in_far sh"
  stub adb "[ \"\$*\" = 'shell -T sh' ] && exec $in_far sh"
}

stub() { # NAME LINE
  printf '%s\n' '#!/bin/sh' "$2" >"bin/$1"
  chmod +x "bin/$1"
}

teardown_file() {
  cd "$BATS_FILE_TMPDIR" || return 1
  stop_all
}

# The commands of README.md: lines of its code blocks, and of its table of one-liners.
commands() {
  awk '/^```/ { inside = !inside; next } inside && /^(uott-|make|git|scp|dig)/' "$readme"
  sed -n '/^## One-liners/,/^## /s/^| .* | `\(.*\)` |$/\1/p' "$readme" | sed 's/\\|/|/g'
}

# type_it COMMAND: as somebody types it into a shell, in the near network.
type_it() {
  # shellcheck disable=SC2046 # words
  start typed $(cat "$BATS_FILE_TMPDIR/in_near") env "PATH=$BATS_FILE_TMPDIR/bin:$BUILD:$PATH" bash -c "$1"
}

# Ends what was typed, with the parts of a pipeline.
end_all() {
  pkill -P "$(paste -sd, pids)" || :
  stop_all
  : >pids
}

in_network() { # far | near COMMAND...
  # shellcheck disable=SC2046 # words
  $(cat "$BATS_FILE_TMPDIR/in_$1") "${@:2}"
}

resolves() { # far | near
  [ "$(in_network "$1" dig @127.0.0.1 -p 5300 +short +tries=1 +time=1 example.org)" = 127.9.9.9 ]
}

echoes() { # PORT: that of the near network
  [ "$(in_network near timeout 1 "$peer" send 127.0.0.1 "$1" <<<hello)" = hello ]
}

# forwards COMMAND [far]: a client here, or on the far side, gets the answer of the DNS server.
forwards() {
  type_it "$1"
  wait_until resolves "${2:-near}"
}

# arrives FAR COMMAND PORT TO: datagrams for PORT here go to the port TO there.
arrives() {
  rm -f got
  # shellcheck disable=SC2046 # words
  start receiver $(cat "$BATS_FILE_TMPDIR/in_$1") socat -u "UDP4-RECV:$4,bind=127.0.0.1" CREATE:got
  wait_until [ -e got ]
  type_it "$2"
  wait_until in_network near grep -q ":$(printf %04X "$3") 00000000:0000 07" /proc/net/udp
  printf hello | in_network near "$peer" post 127.0.0.1 "$3"
  wait_until has_bytes got 5
}

# shellcheck disable=SC2046 # words
try() { # COMMAND
  case $1 in
  git\ * | make | make\ *) return ;; # transports.bats, carry.bats and demo.bats run make
  *' uott-enc 5300') forwards "$1" far ;;
  'socat TCP-LISTEN:40000,'*)
    type_it "$1"
    wait_until in_network near nc -z 127.0.0.1 40000
    return # the next command uses it
    ;;
  'socat /dev/ttyS0,'*53\')
    start line socat -d -d "PTY,link=$PWD/ttyS0,raw,echo=0" "PTY,link=$PWD/far_ttyS0,raw,echo=0"
    wait_until [ -e far_ttyS0 ]
    type_it "${1/\/dev\/ttyS0/$PWD/far_ttyS0}"
    return
    ;;
  'socat /dev/ttyS0,'*) forwards "${1/\/dev/$PWD}" ;;
  'uott-enc -u 514 | ssh '*) arrives far "$1" 514 514 ;;
  'uott-enc -u 9000 | tee capture | '*) arrives near "$1" 9000 9001 ;;
  'uott-dec '*'9001 < capture')
    start receiver $(cat "$BATS_FILE_TMPDIR/in_near") socat -u UDP4-RECV:9001,bind=127.0.0.1 CREATE:replayed
    wait_until [ -e replayed ]
    type_it "$1"
    wait_until has_bytes replayed 5
    ;;
  'uott-enc 5300,5060-5069 '*)
    start echo $(cat "$BATS_FILE_TMPDIR/in_far") socat UDP4-RECVFROM:5069,bind=10.0.0.5,fork PIPE
    forwards "$1"
    wait_until echoes 5069
    ;;
  'uott-enc '*' 5300 -- '* | 'uott-enc 5300 -- '* | 'socat EXEC:'*) forwards "$1" ;;
  *) fail "no test knows this command" ;;
  esac
  end_all
}

@test "each command does what README.md says" {
  mapfile -t typed < <(commands | awk '!seen[$0]++')
  [ "${#typed[@]}" -gt 20 ]
  for command in "${typed[@]}"; do
    echo "# $command"
    try "$command"
  done
}
