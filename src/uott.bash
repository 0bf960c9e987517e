# Completion of bash for uott-enc, uott-dec and uott-carry. The options are those of --help.
_uott() {
	local word=${COMP_WORDS[COMP_CWORD]} i=1
	# COMMAND follows "--". TRANSPORT of uott-carry follows its options.
	if [[ ${1##*/} == uott-carry ]]; then
		while [[ ${COMP_WORDS[i]} == -* ]]; do ((i++)); done
	else
		while ((i < COMP_CWORD)) && [[ ${COMP_WORDS[i]} != -- ]]; do ((i++)); done
		((i++))
	fi
	if ((i < COMP_CWORD)) && declare -F _command_offset >/dev/null; then
		_command_offset "$i"
	elif ((i < COMP_CWORD)); then
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
	elif ((i == COMP_CWORD)) && [[ $word != -* ]]; then
		mapfile -t COMPREPLY < <(compgen -c -- "$word")
	else
		mapfile -t COMPREPLY < <(compgen -W "$("$1" --help 2>/dev/null | awk '/^ +-/ {
			sub(/^ +/, ""); sub(/  .*/, ""); gsub(/\[=[A-Z]+\]|,/, ""); gsub(/=[A-Z]+/, "="); print }')" -- "$word")
		[[ ${COMPREPLY[*]} != *= ]] || compopt -o nospace
	fi
}
complete -F _uott uott-enc uott-dec uott-carry
