"""The units as a host has them: under a real systemd and AppArmor, installed by the document's own commands.

What the tests give the agent elsewhere is root's: here it has what `undercroft.service` leaves it.
"""

from pathlib import Path

import pytest
import systemdhost

MISSING = systemdhost.missing()
pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(3_600),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "a host can be made"),
]

SCRIPT = r"""
active() {
  for second in $(seq 120); do [ "$(systemctl is-active $1)" = active ] && break; sleep 1; done
  systemctl is-active $1; systemctl show -p NRestarts $1
}
until_said() { for second in $(seq 60); do "${@:2}" | grep -q -e "$1" && break; sleep 1; done; "${@:2}"; }

step enabled; ip link add br0 type bridge; ip link set br0 up
systemctl enable --now undercroft; active undercroft; cat /sys/module/apparmor/parameters/enabled

mkdir -p /root/tree/etc /root/tree/var/lib/dpkg
cp /etc/os-release /root/tree/etc/; cp /var/lib/dpkg/status /root/tree/var/lib/dpkg/
mke2fs -q -t ext4 -d /root/tree /root/web01.raw 64M
qemu-img convert -O qcow2 /root/web01.raw /var/lib/libvirt/images/web01.qcow2
cat >/root/web01.xml <<X
<domain type='qemu'><name>web01</name><memory unit='MiB'>64</memory><genid/>
<os><type arch='x86_64' machine='pc'>hvm</type></os><devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
<source file='/var/lib/libvirt/images/web01.qcow2'/><target dev='vda' bus='virtio'/></disk>
<interface type='bridge'><source bridge='br0'/><model type='virtio'/></interface></devices></domain>
X
virsh define /root/web01.xml; undercroft channel enable web01

step started; virsh start web01; virsh dominfo web01 | grep Security; undercroft machine web01
step read; undercroft scan -d web01
step channel; until_said "no helper" undercroft channel status; undercroft vault ls
step filtered; mkdir -p /etc/undercroft
cat >/etc/undercroft/policy.yaml <<P
version: 1
labels: {web: {machines: "web*"}}
ports: {machines: [vnet, tap], uplinks: up0}
firewall: [{from: world, to: web, allow: [tcp/443]}]
P
undercroft firewall apply --reason test; until_said "just now  just now  just now" undercroft firewall status
step "passed by"; ebtables-legacy -t nat -A PREROUTING -j ACCEPT; undercroft firewall prove
until_said ebtables undercroft firewall status; ebtables-legacy -t nat -F

step refused; virsh destroy web01; echo "defaults: {unknown: refuse}" >>/etc/undercroft/policy.yaml
until_said "would meet: refuse" undercroft machine web01; virsh start web01; virsh domstate web01
step "refused without the agent"; systemctl stop undercroft; virsh start web01; virsh domstate web01
systemctl start undercroft; active undercroft
step killed; kill -9 $(systemctl show -p MainPID --value undercroft); sleep 2; active undercroft
step stalled; kill -STOP $(systemctl show -p MainPID --value undercroft); sleep 45; active undercroft
step "guest service killed"; kill -9 $(systemctl show -p MainPID --value undercroft-guest); sleep 2
active undercroft-guest
step problems; journalctl -u undercroft -u undercroft-guest -o cat --no-pager | grep -i -e Traceback -e permit
step denied; journalctl -k --no-pager | grep -i 'apparmor="DENIED"'
step removed
"""
AFTERWARDS = r"""
virsh start web01; virsh domstate web01; systemctl is-active undercroft undercroft-guest
find / -xdev '(' -path /root -o -path /var/lib/libvirt/qemu ')' -prune -o -path '*undercroft*' -print
nft list tables
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return systemdhost.booted(
        tmp_path_factory.mktemp("host"), SCRIPT + systemdhost.documented("Remove") + AFTERWARDS
    )


def test_the_agent_is_up_once_systemd_says_so_and_apparmor_is_in_force(told: dict[str, str]) -> None:
    assert "active\nNRestarts=0\nY\n" in told["enabled"]


def test_a_start_is_decided_by_the_agent_through_libvirt_s_confined_hook(told: dict[str, str]) -> None:
    assert "(enforcing)" in told["started"]
    assert "running on host1" in told["started"]
    assert "allow   agent" in told["started"]


def test_a_machine_is_read_while_it_runs_confined(told: dict[str, str]) -> None:
    assert "coverage complete: all that may hold software was read" in told["read"]


def test_a_guest_s_channel_reaches_its_service(told: dict[str, str]) -> None:
    assert "1 machine: 1 no helper" in told["channel"]  # nothing runs in this guest
    assert "web01" in told["channel"].partition("FENCE")[2]


def test_the_filter_is_proven_and_all_around_it_is_seen(told: dict[str, str]) -> None:
    assert "proven         1  just now  just now  just now" in told["filtered"]
    assert "unknown" not in told["filtered"]


def test_a_rule_of_legacy_ebtables_is_seen_by_root_s_command_and_by_the_agent(told: dict[str, str]) -> None:
    by_root, _, by_the_agent = told["passed by"].partition("HOST ")
    assert "ebtables" in by_root
    assert "ebtables" in by_the_agent


@pytest.mark.parametrize("step", ["refused", "refused without the agent"])
def test_what_the_policy_refuses_does_not_start(told: dict[str, str], step: str) -> None:
    assert "web01 may not start" in told[step]
    assert "shut off" in told[step]


def test_the_agent_comes_back_when_it_is_killed_and_when_it_stalls(told: dict[str, str]) -> None:
    assert "active\nNRestarts=1" in told["killed"]
    assert "active\nNRestarts=2" in told["stalled"]
    assert "active\nNRestarts=1" in told["guest service killed"]


def test_nothing_was_denied_to_anybody(told: dict[str, str]) -> None:
    assert told["denied"].strip() == ""
    assert told["problems"].strip() == ""


def test_nothing_but_the_vaults_is_left_once_it_is_removed(told: dict[str, str]) -> None:
    assert "running" in told["removed"]
    assert "inactive\ninactive\n" in told["removed"]
    left = {line for line in told["removed"].splitlines() if line.startswith("/")}
    assert {Path(line).parts[:4] for line in left} == {("/", "var", "lib", "undercroft-guest")}
    assert "table bridge undercroft" not in told["removed"]
