# shellcheck shell=sh
# Written by source-routing and lost at its next run; see source-routing --help.
#
# Sourced by hooks, with -eu set, under any POSIX shell.  It restores what an apply has
# set for a NIC; whether that still fits is for `source-routing` to see.

export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# By its path: busybox sh would run an ip of its own, which knows no -batch.
for ip in /usr/sbin/ip /sbin/ip /usr/bin/ip /bin/ip; do [ ! -x "$ip" ] || break; done
state=/run/source-routing

# Sets nic to the interface with the label $1; fails when that is none.
find_nic() {
    nic=${1%%:*}
    case $nic in
    '' | lo | -* | . | .. | *[!A-Za-z0-9_.@+-]*) return 1 ;;
    esac
}

# Runs lines of `ip -batch`.  What is there already, or gone already, is a failure to ip.
# $1: family, $2: lines
batch() {
    [ -z "$2" ] || printf '%s\n' "$2" | "$ip" "-$1" -force -batch - >/dev/null 2>&1 || :
}

# Replays the lines of $nic, $1: up or down.
replay() {
    up4='' up6='' down4='' down6='' rp_filter=''
    [ -f "/etc/source-routing/nics/$nic" ] || return 0
    # shellcheck source=/dev/null
    . "/etc/source-routing/nics/$nic"
    if [ "$1" = down ]; then
        up4=$down4 up6=$down6
    elif [ -n "$rp_filter" ] && [ -e "/proc/sys/net/ipv4/conf/$nic/rp_filter" ]; then
        printf '%s\n' "$rp_filter" >"/proc/sys/net/ipv4/conf/$nic/rp_filter"
    fi
    batch 6 "$up6" &
    batch 4 "$up4"
    wait
}

# Has `source-routing follow` look at what is there now.  Nobody waits for it.
look() {
    (
        # Not at its end: dash would keep copies of what it redirects there, and
        # ifupdown2 reads a hook's output until nobody can write any more.
        exec </dev/null >/dev/null 2>&1
        trap '' HUP
        trap - EXIT
        # One who waits looks for all who come meanwhile.  Who may open a lock can hold it.
        [ -d "$state" ] || mkdir -p "$state"
        umask 077
        exec 8>"$state/run.lock" 9>"$state/look.lock"
        umask 022
        ! command -v flock || flock -n 9 || exit 0
        if [ -p "$state/look" ]; then
            # Opened for reading too, since without a reader that would wait.
            echo look 1<>"$state/look"
        elif [ -d /run/systemd/system ]; then
            systemctl --no-block start source-routing.service
        else
            sleep 1
            flock 8 || :
            exec 9>&-
            told=$(source-routing apply --again 2>&1) || logger -t source-routing -p daemon.err -- \
                "source-routing apply failed (exit $?): $(printf '%s\n' "$told" | tail -n 1)"
        fi
    ) &
}
