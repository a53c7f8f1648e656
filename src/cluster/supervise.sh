# Runs the postmaster for as long as somebody holds the cluster. The protocol is told in share.rs.
#
# sh -c SCRIPT supervise RUN LINGER POSTGRES [ARGUMENT...]
#
# standard input: the alive lock, which the postmaster and its backends inherit
# standard output: the hold, a FIFO open for reading
# standard error: the log

exec 3<&0 4<&1 </dev/null >&2
run=$1 linger=$2
shift 2

"$@" <&3 3<&- 4<&- &
postmaster=$!

# Returns when nobody has held the cluster for as long as it lingers.
watch() {
    while :; do
        # A line for each process that joins, end of file when the last one has gone.
        while read -r line; do :; done <&4
        sleep "$linger" >&2
        # Nobody joins without the FIFO's name, so what is read now is the whole truth.
        mv "$run/hold" "$run/withdrawn" >&2 || return
        read -r line <&4 || return
        mv "$run/withdrawn" "$run/hold" >&2 || return
    done
}

# A postmaster that was only just spawned misses the signal, as shells have what they start in the background ignore
# it, so it is sent until there is nobody to send it to. The waiter below ends this loop long before its bound, which
# is for a dead postmaster that nobody buries, when the waiter was killed.
stop() {
    tries=0
    while [ "$tries" -lt 60 ] && kill -INT "$postmaster"; do
        sleep 1 >&2
        tries=$((tries + 1))
    done
    rm -rf "$run"
}

# The stopper learns by the pipe that the watcher has ended, also if that was killed. Descriptors are closed by `exec`,
# for a redirection of the whole group would keep copies of them.
{
    exec 3<&- 2>/dev/null
    watch
    stop
} | {
    exec 3<&- 4<&- 2>/dev/null
    read -r line
    stop
} &
exec 4<&-

wait "$postmaster"
rm -rf "$run"
# The whole process group, the watchers with it. Backends are in groups of their own, and end by themselves.
kill -KILL 0
