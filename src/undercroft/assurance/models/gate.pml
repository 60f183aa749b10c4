/* The reseed gate: quiesce, seed, confirmation, port; agent, service and guest, which may all fail.
 *
 * As it is in CHANNEL.md ("A session", "The seed", "Quiesce") and ADR 7 ("The gate"): the service offers a session
 * to an execution; the guest answers; the welcome has a seed; the helper credits it, thaws what a quiesce froze, and
 * confirms with a tag that only this seed makes; the service tells the agent, which notes the execution as
 * confirmed and opens its port. A quiesced snapshot is taken while all but the helper are frozen; a machine that
 * goes on after it thaws by the seed of a session that began later.
 *
 * Adversary: snapshots at any time, quiesced or not, with what is under way on the line; resumes of any of them;
 * frames of earlier sessions that come late; service and agent that die at any point. One place: forks are the
 * model executions' matter, and what is fresh in one is fresh beside the other.
 *
 * Randomness is a number: two draws of one number are the same bytes. */
#include "common.pml"

#define M_NO_QUIESCE 1			/* nothing is frozen for a snapshot that is called quiesced */
#define M_OPENED_BY_THE_SEED 2		/* before it is confirmed */
#define M_SEED_FOR_ANY 3		/* the confirmation does not name the execution, nor the session its keys */
#define M_STALE_CONFIRMED 4		/* a frame of an earlier session counts, and its generation is not compared */
#define M_CONFIRMED_BEFORE_CREDITED 5
#define M_THAWED_BEFORE_CREDITED 6
#define M_THAWED_BY_RESUME 7
#define M_SEED_REPEATED 8		/* one for each machine */
#define M_CONFIRMED_BY_MACHINE 9	/* the agent notes the machine, not the execution */
#define M_PORT_STAYS_OPEN 10		/* a resume keeps the port as it was */
#define M_LATE_EVENT_OPENS 11		/* the agent does not compare the execution of an event */
#define M_AGENT_OPENS_WHAT_RUNS 12	/* when it starts again */
#define M_SERVICE_GONE_OPENS 13		/* who waits for a service that is gone is let through */

#define R_OPENED_AFTER_A_RESUME 1
#define R_QUIESCED_SNAPSHOT_RESUMED 2
#define R_EXPOSED_SNAPSHOT_RESUMED 3
#define R_WENT_ON_AFTER_QUIESCE 4
#define R_STALE_FRAME_DROPPED 5
#define R_LATE_EVENT_DROPPED 6
#define R_AGENT_OPENS_FROM_ITS_RECORD 7
#define R_SERVICE_DIED_BEFORE_CONFIRMED 8
#define R_STALE_DRAW_BEHIND_A_CLOSED_PORT 9	/* of an exposed snapshot: why the port is closed */

mtype = { nothing, hello, welcome, quiesce, answer, confirmed, quiesced };

typedef Frame { mtype kind = nothing; byte session; byte eid; byte seed }
typedef Guest {
	byte random;	/* the state of its generator */
	byte credited;	/* execution in which that was last credited */
	byte session;	/* it is in; 0: none */
	byte eid;	/* that the session is of */
	bool frozen;	/* all but the helper */
	byte frozen_in;	/* session in which it was quiesced */
	bool owes;	/* a seed was taken and is to be confirmed */
	byte seed
}

Guest g, saved;
Frame up, down, up_saved, old;	/* old: a confirmation that was sent, to be sent again */
bool replayed;
bool is_saved, saved_quiesced, from_quiesced;

/* The host. */
byte eid = 1;
byte sessions;
byte session;		/* of this service's; 0: none */
bool session_open;
byte seed_given;	/* in this session; 0: none */
bool due = true;	/* a seed is: none was confirmed, or a quiesce came after */
bool service = true, agent = true;
byte event;		/* execution that the service told the agent of; 0: none */
unsigned noted : 6;	/* executions that are on record as confirmed */
bool port;
bool asked;		/* a quiesce was answered in this session: a snapshot may be taken */
bool went_on;

byte seeds = 1;
byte drew[12];		/* of each state of the generator: in which execution it was drawn from, and went out */
byte deaths, snaps, resumes, max_deaths, max_resumes, max_sessions;

inline send_up(what) { up.kind = what; up.session = g.session; up.eid = g.eid; up.seed = g.seed }

inline no_frame(f) { f.kind = nothing; f.session = 0; f.eid = 0; f.seed = 0 }

inline begin_session()
{
	sessions++; session = sessions; session_open = false; seed_given = 0; asked = false;
	down.kind = hello; down.session = session; down.eid = eid; down.seed = 0
}

inline open_port()
{
	port = true;
	if :: eid > 1 -> REACHED(OPENED_AFTER_A_RESUME) :: else fi
}

init {
	d_step {
		c_code { now.mutant = chosen("MUTANT", 0); now.reach = chosen("REACH", 0); };
		c_code { now.max_deaths = chosen("DEATHS", 1); now.max_resumes = chosen("RESUMES", 2); };
		c_code { now.max_sessions = chosen("SESSIONS", 5); };
		g.random = 1
	};
	do
	/* The service. */
	:: d_step { service && sessions < max_sessions && down.kind == nothing &&
		(session == 0 || (session_open && asked && went_on)) -> begin_session(); went_on = false }
	:: d_step { service && up.kind != nothing ->
		if
		:: up.kind == answer && up.session == session && up.eid == eid && !session_open && down.kind == nothing ->
			session_open = true;
			if
			:: due ->
				seeds++;
				seed_given = (IS(SEED_REPEATED) -> 2 : seeds);
				if :: IS(OPENED_BY_THE_SEED) -> event = eid /* mutant */ :: else fi
			:: else
			fi;
			down.kind = welcome; down.session = session; down.eid = eid; down.seed = seed_given
		:: up.kind == confirmed && ((up.session == session && session_open && up.eid == eid && up.seed == seed_given &&
			seed_given > 0) || IS(STALE_CONFIRMED) || (IS(SEED_FOR_ANY) && session_open && seed_given > 0)) ->
			due = false; event = eid
		:: up.kind == quiesced && up.session == session && up.eid == eid && session_open ->
			asked = true; due = true
		:: else ->
			if :: up.session != session || up.eid != eid -> REACHED(STALE_FRAME_DROPPED) :: else fi
		fi;
		no_frame(up) }
	/* The agent. */
	:: d_step { agent && event > 0 ->
		if
		:: event == eid || IS(LATE_EVENT_OPENS) ->
			noted = noted | (1 << eid)
		:: else ->
			if :: IS(CONFIRMED_BY_MACHINE) -> noted = noted | (1 << eid) /* mutant */ :: else fi;
			REACHED(LATE_EVENT_DROPPED)
		fi;
		event = 0 }
	:: d_step { agent && !port && (noted & (1 << eid)) -> open_port() }
	:: d_step { agent && service && session_open && down.kind == nothing && snaps == 0 && !g.frozen ->	/* undercroft snapshot */
		down.kind = quiesce; down.session = session; down.eid = eid; down.seed = 0 }
	:: d_step { agent && asked && snaps == 0 ->
		snaps++; is_saved = true; saved_quiesced = true; went_on = true;
		saved.random = g.random; saved.credited = g.credited; saved.session = g.session; saved.eid = g.eid;
		saved.frozen = g.frozen; saved.frozen_in = g.frozen_in; saved.owes = g.owes; saved.seed = g.seed;
		up_saved.kind = up.kind; up_saved.session = up.session; up_saved.eid = up.eid; up_saved.seed = up.seed }
	/* The guest's helper, */
	:: d_step { down.kind == hello && up.kind == nothing ->
		g.session = down.session; g.eid = down.eid; g.owes = false; g.seed = 0;
		send_up(answer); no_frame(down) }
	:: d_step { down.kind == welcome && down.session != g.session -> no_frame(down) }
	:: d_step { down.kind == welcome && down.session == g.session && !g.owes ->
		if
		:: down.seed > 0 ->
			g.seed = down.seed; g.owes = true;
			if
			:: IS(CONFIRMED_BEFORE_CREDITED) && up.kind == nothing -> send_up(confirmed) /* mutant */
			:: IS(THAWED_BEFORE_CREDITED) -> g.frozen = false /* mutant */
			:: else
			fi
		:: else
		fi;
		no_frame(down) }
	:: d_step { g.owes && g.random != g.seed ->
		g.random = g.seed; g.credited = g.eid }
	:: d_step { g.owes && g.random == g.seed && g.frozen && (g.session > g.frozen_in) ->
		g.frozen = false;
		if :: g.eid == 1 && is_saved -> REACHED(WENT_ON_AFTER_QUIESCE) :: else fi }
	:: d_step { g.owes && g.random == g.seed && !g.frozen && up.kind == nothing ->
		g.owes = false; g.credited = g.eid; send_up(confirmed);
		old.kind = confirmed; old.session = up.session; old.eid = up.eid; old.seed = up.seed }
	:: d_step { down.kind == quiesce && down.session == g.session && up.kind == nothing ->
		if :: IS(NO_QUIESCE) -> skip /* mutant */ :: else -> g.frozen = true fi;
		g.frozen_in = g.session;
		send_up(quiesced); no_frame(down) }
	:: d_step { down.kind == quiesce && down.session != g.session -> no_frame(down) }
	/* and its programs, which draw. */
	:: d_step { !g.frozen && (port || eid > 1 || is_saved) ->
		if
		:: port ->
			HOLDS(NoOutputBeforeReseed, g.credited == eid);
			HOLDS(NoOutputBeforeReseed, drew[g.random] == 0 || drew[g.random] == eid);
			drew[g.random] = eid
		:: else ->
			HOLDS(NoStaleDraw, !from_quiesced || g.credited == eid);
			HOLDS(NoStaleDraw, !(is_saved && saved_quiesced && eid == 1) || g.random != saved.random);
			if :: eid > 1 && g.credited != eid -> REACHED(STALE_DRAW_BEHIND_A_CLOSED_PORT) :: else fi
		fi }
	/* The adversary. */
	:: d_step { old.kind != nothing && !replayed && up.kind == nothing ->
		replayed = true;
		up.kind = old.kind; up.session = old.session; up.eid = old.eid; up.seed = old.seed }
	:: d_step { snaps == 0 ->	/* a snapshot past Undercroft */
		snaps++; is_saved = true; saved_quiesced = false;
		saved.random = g.random; saved.credited = g.credited; saved.session = g.session; saved.eid = g.eid;
		saved.frozen = g.frozen; saved.frozen_in = g.frozen_in; saved.owes = g.owes; saved.seed = g.seed;
		up_saved.kind = up.kind; up_saved.session = up.session; up_saved.eid = up.eid; up_saved.seed = up.seed }
	:: d_step { is_saved && resumes < max_resumes ->	/* it is resumed: another execution, its port is held */
		resumes++;
		g.random = saved.random; g.credited = saved.credited; g.session = saved.session; g.eid = saved.eid;
		g.frozen = saved.frozen; g.frozen_in = saved.frozen_in; g.owes = saved.owes; g.seed = saved.seed;
		up.kind = up_saved.kind; up.session = up_saved.session; up.eid = up_saved.eid; up.seed = up_saved.seed;
		if :: IS(THAWED_BY_RESUME) -> g.frozen = false /* mutant */ :: else fi;
		no_frame(down);
		if :: (noted & (1 << eid)) && IS(CONFIRMED_BY_MACHINE) -> noted = noted | (1 << (eid + 1)) /* mutant */ :: else fi;
		eid++;
		from_quiesced = saved_quiesced;
		session = 0; session_open = false; seed_given = 0; asked = false; due = true; went_on = false;
		if :: IS(PORT_STAYS_OPEN) -> skip /* mutant */ :: else -> port = false fi;
		if :: saved_quiesced -> REACHED(QUIESCED_SNAPSHOT_RESUMED) :: else -> REACHED(EXPOSED_SNAPSHOT_RESUMED) fi }
	:: d_step { service && deaths < max_deaths ->
		deaths++; service = false;
		if :: seed_given > 0 && due -> REACHED(SERVICE_DIED_BEFORE_CONFIRMED) :: else fi;
		session = 0; session_open = false; seed_given = 0; asked = false; no_frame(down);
		due = !(noted & (1 << eid)) || g.frozen;
		if :: IS(SERVICE_GONE_OPENS) && agent -> event = eid /* mutant */ :: else fi }
	:: d_step { !service -> service = true }
	:: d_step { agent && deaths < max_deaths -> deaths++; agent = false; event = 0 }
	:: d_step { !agent ->
		agent = true;
		if :: !port && (noted & (1 << eid)) -> REACHED(AGENT_OPENS_FROM_ITS_RECORD) :: else fi;
		if
		:: IS(AGENT_OPENS_WHAT_RUNS) -> open_port() /* mutant */
		:: else -> HOLDS(FailClosed, !port || (noted & (1 << eid)) || IS(OPENED_BY_THE_SEED))
		fi;
		if	/* the service tells it again what was confirmed */
		:: service && session_open && !due -> event = eid
		:: else
		fi }
	:: break
	od;
	HOLDS(FailClosed, !port || (noted & (1 << eid)))
}
