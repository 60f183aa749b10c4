/* Rewinds within an execution: which loads the channel proves, and that it accuses nobody else.
 *
 * As it is in src/undercroft/channel/seen.py and session.py, and in CHANNEL.md ("Taking a sealed frame", "Rewinds").
 * The guest counts a frame before it sends one and when it has taken one, in memory of its boot (its standing);
 * the host keeps, over its own restarts, the session that it opened last, how many frames it received in it, and
 * how many of its own it knows to be taken.
 *
 * Adversary: the memory is put back to any earlier point, through the monitor, with what lies in its queue; helper
 * and service die; the guest reboots; frames are lost with a session. An honest helper: one that lies about its
 * standing hides its own rewind only. Frames carry counts; what a head adds is that they cannot be made up. */
#include "common.pml"

#define M_NUMBER_NOT_COMPARED 1
#define M_STANDING_NOT_COMPARED 3
#define M_BOOTS_FORGOTTEN 4
#define M_SEEN_FORGOTTEN 5		/* by a service that starts again */
#define M_STANDING_IN_THE_PROCESS 6	/* a helper that starts again has none */
#define M_COUNTED_AFTER_SENDING 7
#define M_STANDING_KEPT_OVER_A_REBOOT 8	/* and the boot's id with it unread: a reboot looks like a load */
#define M_WELCOME_LESSENS 10		/* a new session sets its counts before the answer is judged */

#define R_PROVEN_BY_NUMBER 1
#define R_PROVEN_BY_STANDING 3
#define R_PROVEN_BY_BOOT 4
#define R_PROVEN_BY_SECOND_ANSWER 5
#define R_LOAD_AFTER_THE_LAST_FRAME 6	/* the limit: not found */
#define R_SESSION_AFTER_A_REBOOT 7
#define R_LOAD_HIDDEN_BY_A_LOSS 8	/* the limit: what would have proven it was lost, and the counts caught up */

mtype = { nothing, hello, answer, sealed };

typedef Guest {
	byte boot;
	byte serial;	/* standing: session, frames sent, frames taken */
	byte sent;
	byte taken;
	bool in_session	/* the helper has its keys */
}
typedef Frame { mtype kind = nothing; byte serial; byte boot; byte was_serial; byte sent; byte taken }

Guest g, saved;
Frame up, up_saved;
byte down;		/* 0 nothing, 1 a hello, 2 a sealed frame */
byte down_serial, down_number;
bool is_saved;

/* The host: the session, and what was seen. */
byte session, phase;	/* 0 over, 1 offered, 2 open */
byte sent;		/* in this session */
byte seen_boot, seen_serial, seen_received, seen_known;
unsigned former : 8;
bool proven;

byte boots = 1;
bool loaded;		/* the memory was put back, and */
bool behind;		/* before something that the host had seen */
bool owed;		/* a frame was counted and is not sent yet: only where a helper counts afterwards */
byte sessions, loads, faults, max_sessions, max_faults, max_frames, max_loads;

inline nothing_up() { up.kind = nothing; up.serial = 0; up.boot = 0; up.was_serial = 0; up.sent = 0; up.taken = 0 }

inline proves()
{
	HOLDS(NoFalseProof, loaded);
	proven = true; phase = 0;
	nothing_up()
}

inline caught_up()	/* a guest whose counts are no longer behind: nothing is left that would show the load */
{
	if
	:: behind && g.boot == seen_boot && (g.serial > seen_serial ||
		(g.serial == seen_serial && g.sent >= seen_received && g.taken >= seen_known)) ->
		REACHED(LOAD_HIDDEN_BY_A_LOSS);
		behind = false
	:: else
	fi
}

init {
	d_step {
		c_code { now.mutant = chosen("MUTANT", 0); now.reach = chosen("REACH", 0); };
		c_code { now.max_sessions = chosen("SESSIONS", 3); now.max_faults = chosen("FAULTS", 2); };
		c_code { now.max_frames = chosen("FRAMES", 2); now.max_loads = chosen("LOADS", 1); };
		g.boot = 1
	};
	do
	:: d_step { !proven && sessions < max_sessions && down == 0 && (phase == 0 || faults > 0 || loaded) ->	/* hello */
		sessions++; session = sessions; phase = 1; sent = 0;
		if :: IS(WELCOME_LESSENS) -> seen_received = 0; seen_known = 0; seen_serial = session /* mutant */ :: else fi;
		down = 1; down_serial = session; down_number = 0 }
	:: d_step { down == 1 && up.kind == nothing ->	/* the guest answers, and its standing is of this session from then on */
		up.kind = answer; up.serial = down_serial; up.boot = (IS(STANDING_KEPT_OVER_A_REBOOT) -> 1 : g.boot);
		up.was_serial = g.serial; up.sent = g.sent; up.taken = g.taken;
		g.serial = down_serial; g.sent = 0; g.taken = 0; g.in_session = true;
		down = 0; down_serial = 0 }
	:: d_step { down == 2 ->	/* and takes a frame; one that is not the next ends its session */
		if
		:: g.in_session && g.serial == down_serial && down_number == g.taken + 1 -> g.taken++
		:: else -> g.in_session = false
		fi;
		down = 0; down_serial = 0; down_number = 0 }
	:: d_step { g.in_session && g.taken > 0 && up.kind == nothing && g.sent < max_frames ->	/* and says something */
		g.sent++;
		up.kind = sealed; up.serial = g.serial; up.sent = g.sent; up.taken = g.taken;
		if :: IS(COUNTED_AFTER_SENDING) -> g.sent--; owed = true /* mutant */ :: else fi }
	:: d_step { owed -> owed = false; g.sent++ } /* mutant */
	/* The host. */
	:: d_step { phase == 2 && down == 0 && sent < max_frames + 1 -> sent++; down = 2; down_serial = session; down_number = sent }
	:: d_step { up.kind == answer && up.serial != session -> nothing_up(); caught_up() }
	:: d_step { up.kind == answer && up.serial == session && phase == 2 ->	/* a second answer to one hello */
		REACHED(PROVEN_BY_SECOND_ANSWER); proves() }
	:: d_step { up.kind == answer && up.serial == session && phase == 1 ->	/* seen.judge_answer */
		if
		:: former & (1 << up.boot) && !IS(BOOTS_FORGOTTEN) -> REACHED(PROVEN_BY_BOOT); proves()
		:: up.boot == seen_boot && !IS(STANDING_NOT_COMPARED) && (up.was_serial < seen_serial ||
			(up.was_serial == seen_serial && (up.sent < seen_received || up.taken < seen_known))) ->
			REACHED(PROVEN_BY_STANDING); proves()
		:: else ->
			HOLDS(LoadIsProven, !behind);
			if
			:: seen_boot > 0 && up.boot != seen_boot ->
				former = former | (1 << seen_boot);
				REACHED(SESSION_AFTER_A_REBOOT)
			:: else
			fi;
			seen_boot = up.boot; seen_serial = session; seen_received = 0; seen_known = 0;
			phase = 2; nothing_up();
			loaded = loaded && behind
		fi }
	:: d_step { up.kind == sealed && (up.serial != session || phase != 2) ->	/* its tag does not fit */
		nothing_up(); caught_up() }
	:: d_step { up.kind == sealed && up.serial == session && phase == 2 ->
		if
		:: up.sent <= seen_received && !IS(NUMBER_NOT_COMPARED) -> REACHED(PROVEN_BY_NUMBER); proves()
		:: up.sent > seen_received && up.taken < seen_known -> proves()	/* never: a number shows it first */
		:: else ->
			if
			:: up.sent > seen_received + 1 || up.taken > sent -> phase = 0	/* the session is over */
			:: else ->
				HOLDS(LoadIsProven, !behind);
				seen_received = up.sent; seen_known = up.taken
			fi;
			nothing_up()
		fi }
	/* The adversary. */
	:: d_step { !is_saved ->
		is_saved = true;
		saved.boot = g.boot; saved.serial = g.serial; saved.sent = g.sent; saved.taken = g.taken;
		saved.in_session = g.in_session;
		up_saved.kind = up.kind; up_saved.serial = up.serial; up_saved.boot = up.boot;
		up_saved.was_serial = up.was_serial; up_saved.sent = up.sent; up_saved.taken = up.taken }
	:: d_step { is_saved && loads < max_loads && !proven && !owed ->
		loads++; loaded = true;
		g.boot = saved.boot; g.serial = saved.serial; g.sent = saved.sent; g.taken = saved.taken;
		g.in_session = saved.in_session;
		up.kind = up_saved.kind; up.serial = up_saved.serial; up.boot = up_saved.boot;
		up.was_serial = up_saved.was_serial; up.sent = up_saved.sent; up.taken = up_saved.taken;
		down = 0; down_serial = 0; down_number = 0;
		if
		:: seen_boot > 0 && (g.boot != seen_boot || g.serial < seen_serial || (g.serial == seen_serial &&
			(g.sent < seen_received || g.taken < seen_known))) -> behind = (g.boot == seen_boot || (former & (1 << g.boot)))
		:: else -> REACHED(LOAD_AFTER_THE_LAST_FRAME)
		fi }
	:: d_step { faults < max_faults && !proven ->	/* frames are lost with the connection */
		faults++; nothing_up(); down = 0; down_serial = 0; down_number = 0; phase = 0;
		caught_up() }
	:: d_step { faults < max_faults && !proven ->	/* the service dies */
		faults++; phase = 0; down = 0; down_serial = 0; down_number = 0;
		if :: IS(SEEN_FORGOTTEN) -> seen_boot = 0; seen_serial = 0; seen_received = 0; seen_known = 0; former = 0 /* mutant */ :: else fi;
		caught_up() }
	:: d_step { faults < max_faults ->	/* the helper dies, and starts again with its standing */
		faults++; g.in_session = false; owed = false;
		if :: IS(STANDING_IN_THE_PROCESS) -> g.serial = 0; g.sent = 0; g.taken = 0 /* mutant */ :: else fi }
	:: d_step { faults < max_faults && boots < 4 ->	/* the guest reboots */
		faults++; boots++; g.boot = boots; g.in_session = false; nothing_up();
		g.serial = 0; g.sent = 0; g.taken = 0; owed = false;
		behind = false; loaded = (loaded && is_saved && loads == max_loads) }
	:: break
	od
}
