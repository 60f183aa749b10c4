# make demo | test | lint | prove | bench | soak | coverage | guest. Each installs what it needs.
#
# As root on Debian the system packages come through apt; as another user they have to be there already.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PROVER := .cache/prover

# What runs Undercroft (libvirt-python is built from its source); what builds the demo's guest and its host,
# which needs no service of libvirt's; what the tests hold up as peers and oracles.
RUN_PACKAGES := python3-venv bubblewrap gpgv gcc python3-dev pkg-config libvirt-dev
DEMO_PACKAGES := $(RUN_PACKAGES) mmdebstrap qemu-utils e2fsprogs fdisk util-linux mount hostname libvirt-daemon \
	libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86 busybox-static cpio
TEST_PACKAGES := $(DEMO_PACKAGES) libvirt-daemon-system kmod dpkg-dev gdisk gnupg iproute2 \
	strace distro-info-data cryptsetup-bin dosfstools xfsprogs btrfs-progs f2fs-tools squashfs-tools postgresql nftables \
	openssh-client procps spin libtss2-dev swtpm swtpm-tools tpm2-tools rpm db-util \
	pacman-package-manager ntfs-3g mtools libhivex-bin libwin-hivex-perl lvm2 xorriso genisoimage \
	makefs exfatprogs exfat-fuse grub-common
BENCH_PACKAGES := $(TEST_PACKAGES) libguestfs-tools iptables etcd-server
PROVE_PACKAGES := python3-venv default-jre-headless

.PHONY: demo test lint prove bench soak coverage guest clean

demo: $(VENV)/run.stamp
	@sh tools/apt-install $(DEMO_PACKAGES)
	@$(BIN)/python demo/run.py

# The proof of the vault's core is one of the tests; where its result is kept for these very sources, it takes that.
# Its verifier is for Python 3.11 on x86-64 and Java 17: elsewhere that test is skipped, and says so.
test: $(VENV)/dev.stamp
	@$(MAKE) -s $(PROVER)/stamp || echo "the verifier cannot be installed: the vault's core is not proven here" >&2
	$(BIN)/pytest -n 3 --dist loadgroup -q

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

prove: $(PROVER)/stamp
	@$(PYTHON) tools/prove.py

# One test counts what is imported, and coverage itself imports.
coverage: $(VENV)/dev.stamp
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --dist loadgroup -q --deselect \
		tests/integration/test_inventory_hostile.py::test_a_reader_opens_and_imports_nothing_after_its_imports
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

bench: $(VENV)/bench.stamp
	$(BIN)/python bench/run.py
	$(BIN)/python bench/containers.py
	$(BIN)/python bench/manyimages.py
	$(BIN)/python bench/filesystems.py
	$(BIN)/python bench/luks.py
	$(BIN)/python bench/formats_compare.py --guestfs
	$(BIN)/python bench/fleet.py
	$(BIN)/python bench/firewall.py
	$(BIN)/python bench/channel.py
	$(BIN)/python bench/vaultengine.py
	$(BIN)/python bench/guestservice.py
	$(BIN)/python bench/resume.py
	$(BIN)/python bench/reseeded.py

# The small helper for guests without Python: build/undercroft-reseed.
guest:
	@sh tools/apt-install gcc libc6-dev
	@sh tools/build-reseed

soak: $(VENV)/dev.stamp $(PROVER)/stamp
	$(BIN)/pytest -m soak -q --timeout 7200
	UNDERCROFT_EXT_MUTANTS=1000 $(BIN)/pytest --hypothesis-profile soak -q --timeout 7200 tests/unit

$(VENV)/run.stamp: pyproject.toml requirements/run.lock
	@sh tools/apt-install $(RUN_PACKAGES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --require-hashes -r requirements/run.lock
	$(BIN)/pip install -q --no-deps -e .
	$(BIN)/python -m compileall -q src  # the sandbox may not write what it compiles
	touch $@

# What is built from its source (tpm2-pytss, libvirt-python) only hands calls on: unoptimized it is there in a third of
# the time, 16 s of the processor instead of 45.
$(VENV)/dev.stamp: pyproject.toml requirements/dev.lock
	@sh tools/apt-install $(TEST_PACKAGES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	CFLAGS=-O0 $(BIN)/pip install -q --require-hashes -r requirements/dev.lock
	$(BIN)/pip install -q --no-deps -e .
	$(BIN)/python -m compileall -q src  # the sandbox may not write what it compiles
	touch $@ $(VENV)/run.stamp

$(VENV)/bench.stamp: $(VENV)/dev.stamp requirements/bench.lock
	@sh tools/apt-install $(BENCH_PACKAGES)
	$(BIN)/pip install -q --require-hashes -r requirements/bench.lock
	touch $@

$(PROVER)/stamp: requirements/prove.lock
	@sh tools/apt-install $(PROVE_PACKAGES)
	test -x $(PROVER)/bin/python || $(PYTHON) -m venv $(PROVER)
	$(PROVER)/bin/pip install -q --no-deps --require-hashes -r requirements/prove.lock
	touch $@

clean:
	rm -rf $(VENV) .cache build dist .coverage*
