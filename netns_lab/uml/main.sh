#!/bin/sh
# PID 1 of the lab kernel, second half: run the job's command and leave its exit code in
# "result". The host takes a missing result for failure and ends the kernel when it is there.
job=/run/qsgw-job
. "$job/environment"
umount -l /run/old-root

# The kernel loads crypto templates, link types and queueing disciplines by itself.
cat > /run/modprobe <<EOF
#!/bin/sh
. $job/environment
exec modprobe -d $job/modules "\$@"
EOF
chmod +x /run/modprobe
echo /run/modprobe > /proc/sys/kernel/modprobe
# ... but not whole address families in time: IPv6 is a module here.
modprobe -d "$job/modules" ipv6
ip link set lo up

: > "$job/booted"
setsid -w sh "$job/command" </dev/null >"$job/stdout" 2>"$job/stderr"
echo $? > "$job/result.new"
sync
mv "$job/result.new" "$job/result"
while :; do sleep 3600; done
