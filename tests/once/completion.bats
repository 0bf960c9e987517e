#!/usr/bin/env bats
# Goal: in bash, zsh and fish, Tab completes the options that --help shows, and the command behind --.
load ../helpers
bats_require_minimum_version 1.5.0

setup_file() {
  cd "$BATS_FILE_TMPDIR" || return 1
  make -s -C "$BATS_TEST_DIRNAME/../.." install DESTDIR="$PWD" PREFIX=
  ln -s "$(type -P true)" bin/frobnicate
}

# The session runs as $pid.
start_shell() { # COMMAND...
  env -i "PATH=$BATS_FILE_TMPDIR/bin:$PATH" HOME="$PWD" LC_ALL=C.UTF-8 TERM=screen "SHELL=/bin/sh" \
    tmux -S tmux -f /dev/null new-session -d -x 200 -y 90 "$@"
  tmux -S tmux display-message -p '#{pid}' >>pids
  wait_until shows '\$'
}

options() { # PROGRAM: those that it takes
  "$BATS_FILE_TMPDIR/bin/$1" --help | grep -E '^ +-' | cut -c 1-24 | grep -oE -- '(^| )--?[a-zA-Z0-9][a-z-]*'
}

shows_all_options() { # PROGRAM
  tmux -S tmux capture-pane -p >screen.err
  for option in $(options "$1"); do grep -qE -- "(^| )$option([ =]|\$)" screen.err || return; done
}

press() {
  tmux -S tmux send-keys "$@"
}

# What is typed before Tab, and the line after it.
completes() {
  while read -r typed line; do
    press -l "${typed//_/ }"
    press Tab
    wait_until shows "\\\$ ${line//_/ }"
    press C-u
    wait_until shows '\$'
  done <<'END'
uott-enc_--id uott-enc_--idle=?
uott-dec_--bi uott-dec_--bind=?
uott-enc_-v_--ver uott-enc_-v_--ver(bose|sion)?
uott-enc_5300_--_frobn uott-enc_5300_--_frobnicate
uott-dec_-v_127.0.0.1:53_--_frobn uott-dec_-v_127.0.0.1:53_--_frobnicate
uott-carry_--he uott-carry_--help
uott-carry_frobn uott-carry_frobnicate
uott-carry_-r_frobn uott-carry_-r_frobnicate
END
  for program in uott-enc uott-dec uott-carry; do
    [ "$(options $program | wc -l)" -ge 3 ]
    press -l "$program -"
    press Tab Tab
    wait_until shows_all_options $program
    press C-c
    press C-l
    wait_until shows '\$'
  done
}

@test "bash" {
  cat >rc <<END
PS1='\$ '
for file in $BATS_FILE_TMPDIR/share/bash-completion/completions/*; do source \$file; done
END
  start_shell bash --rcfile rc -i
  completes
}

@test "zsh" {
  cat >.zshrc <<END
PROMPT='\$ '
fpath=($BATS_FILE_TMPDIR/share/zsh/site-functions \$fpath)
autoload -U compinit && compinit -u -D
END
  start_shell zsh -i
  completes
}

@test "fish" {
  start_shell fish --no-config -i -C 'function fish_prompt; echo -n "\$ "; end; function fish_greeting; end' \
    -C "set -g fish_complete_path $BATS_FILE_TMPDIR/share/fish/vendor_completions.d \$fish_complete_path"
  completes
}
