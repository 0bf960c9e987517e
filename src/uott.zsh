#compdef uott-enc uott-dec uott-carry
# Completion of zsh. The options are those of --help.

local -i i=2
local -a options
# COMMAND follows "--". TRANSPORT of uott-carry follows its options.
if [[ $service == uott-carry ]]; then
	while [[ $words[i] == -* ]] && ((i < CURRENT)); do ((i++)); done
else
	while [[ $words[i] != -- ]] && ((i < CURRENT)); do ((i++)); done
	((i++))
fi
if ((i <= CURRENT)) && [[ $words[CURRENT] != -* || $i -lt $CURRENT ]]; then
	shift $((i - 1)) words
	((CURRENT -= i - 1))
	_normal
	return
fi
options=(${(f)"$($words[1] --help 2>/dev/null | awk '/^ +-/ {
	sub(/^ +/, ""); text = $0; sub(/  .*/, ""); sub(/^.*  +/, "", text); gsub(/\[=[A-Z]+\]|=[A-Z]+/, "")
	count = split($0, option, ", "); for (n = 1; n <= count; n++) print option[n] ":" text }')"})
_describe -o option options
