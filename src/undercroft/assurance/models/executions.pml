/* Executions of one machine, the fence of its vault, and requests that are asked again.
 *
 * As it is in src/undercroft/vault/core.py (take, end, request and the window of answers), CHANNEL.md ("Requests",
 * "Rewinds") and ADR 7: the agent mints an execution for each start, restore, revert and fork; the service
 * gives it the fence; a request has a number of its execution; what was not answered is asked again.
 *
 * Adversary: snapshots at any time; reverts; forks beside what runs; loads through the monitor, which no
 * execution is minted for; a session that breaks at any point, so that a request or its answer is lost and it
 * is asked again; a reboot, which forgets all numbers. Durability is the model vault's matter.
 *
 * One token, one counter, one name to revoke. The window keeps two answers. */
#include "common.pml"

#define M_FENCE_NOT_CHECKED 1
#define M_WINDOW_KEPT_FOR_THE_NEXT 2	/* the next execution finds the answers of the one before */
#define M_RESTORE_GOES_ON 3		/* a revert is no new execution */
#define M_LOAD_UNNOTICED 4		/* frames are not counted */
#define M_RECORD_FORGOTTEN 5		/* a session that breaks loses the window */
#define M_OLD_NUMBER_RUNS 6		/* a number whose answer is no longer kept is taken for new */
#define M_ANOTHER_REQUEST_ANSWERED 7	/* the request is not compared */
#define M_WELCOME_FROM_ONE 8		/* who rebooted is told to begin at 1 */
#define M_FENCE_COMES_BACK 9		/* whoever lost the fence may take it again */
#define M_SPENDS_OF_THE_EXECUTION 10	/* each execution has its own */
#define M_GUARD_IN_THE_GUEST 11		/* what was revoked is kept in the guest's memory */
#define M_PARENT_IS_THE_LAST 12		/* not the one that the snapshot was taken of */
#define M_FENCED_ANSWERED_FROM_RECORD 13	/* repeated requests are answered before the fence is asked */

#define R_FORK_WINS 1
#define R_FORK_IS_FENCED 2
#define R_REPEATED_ANSWER 3
#define R_REWIND_PROVEN 4
#define R_SPENT_REFUSED 5
#define R_VALUE_AFTER_A_REVERT 6
#define R_FORGOTTEN 7
#define R_CONFLICT 8
#define R_REVOKED_IN_A_FORK 9
#define R_LOAD_REPEATS_AN_ANSWER 10	/* the limit: the guest was put back before it told that it had the answer */

#define R_LOAD_HIDDEN_BY_A_LOSS 11	/* the limit: the frames that would prove it are lost with the session */

#define PLACES 2	/* QEMU processes of this machine at once */
#define KEEP 2		/* answers.WINDOW */

mtype = { none, count, spend, revoke, guard, denied };

typedef Memory {	/* of a guest: all of it comes back with a snapshot */
	byte next;	/* the number of its next request */
	byte number;	/* of what it waits for; 0: nothing */
	mtype what = none;
	byte serial;	/* of its session */
	byte sent;	/* frames in it */
	bool gone	/* it knows that the name is revoked: what a guest without a vault has */
}
typedef Place {
	bool runs;
	byte eid;
	byte life;	/* which stretch that never rewound, as nobody but the model knows */
	byte was;	/* the one before a load that is not proven yet; 0: none */
	Memory m;
	byte serial;	/* of the session that the host opened last */
	byte received;	/* frames that the host has seen in it */
	byte wire;	/* number on its way to the host; 0: none */
	mtype wwhat = none;
	byte wframe;
	bool wearlier;	/* sealed in an earlier session */
	byte back;	/* number on its way to the guest */
	mtype bwhat = none;
	byte bvalue	/* 0: refused, else 1 or the value */
}
typedef Kept { byte number; mtype what = none; byte value }
typedef Snap { bool taken; byte eid; Memory m }

Place p[PLACES];
Snap snap;
byte fence;		/* which execution has it */
bool lives;
Kept kept[KEEP];
byte newest;
byte value;		/* the counter's */
bool spent, revoked;
byte eids, lifes, asks;
byte parent[7], life_of[7];
byte holder[9];		/* of each value: 1 + life that was told it */
byte token_life;	/* that was told that the token is its own */
bool told_revoked;
bool ever[42];		/* (execution, number) that ran */
byte max_asks, max_eids, max_breaks, max_snaps, snaps, loads, breaks;
bool liars, lied;
bool unseen;		/* a load that nothing proves took place */

#define BEHIND(i) (p[i].m.serial < p[i].serial || p[i].m.sent < p[i].received)

inline forget_window() { kept[0].number = 0; kept[1].number = 0; newest = 0 }

inline copym(to, from)
{
	to.next = from.next; to.number = from.number; to.what = from.what; to.sent = from.sent; to.serial = from.serial; to.gone = from.gone
}

inline session(at)	/* ends, and another begins: what is under way is lost */
{
	p[at].wire = 0; p[at].wwhat = none; p[at].wframe = 0; p[at].back = 0; p[at].bwhat = none; p[at].bvalue = 0;
	p[at].wearlier = 0; p[at].received = 0; p[at].m.sent = 0; p[at].serial++; p[at].m.serial = p[at].serial;
	if	/* the welcome says from where on numbers are new */
	:: p[at].eid == fence && lives && p[at].m.next <= newest && !IS(WELCOME_FROM_ONE) -> p[at].m.next = newest + 1
	:: else
	fi
}

inline take(who, isfork)	/* Core.take */
{
	if
	:: lives && who == fence
	:: who <= fence && !(IS(FENCE_COMES_BACK) && who != fence) -> skip
	:: isfork && lives -> REACHED(FORK_IS_FENCED)
	:: else ->
		fence = who; lives = true;
		if :: IS(WINDOW_KEPT_FOR_THE_NEXT) -> skip /* mutant */ :: else -> forget_window() fi;
		if :: isfork -> REACHED(FORK_WINS) :: else fi
	fi
}

inline mint(at, from, isfork)	/* the agent, at each start that it sees; and the service, at a proof */
{
	eids++;
	parent[eids] = (IS(PARENT_IS_THE_LAST) -> eids - 1 : from);
	HOLDS(Tree, parent[eids] < eids && parent[eids] == from);
	p[at].eid = eids;
	take(eids, isfork)
}

inline new_life(at) { lifes++; p[at].life = lifes; p[at].was = 0 }

inline decide(who, nr, what_)	/* Core.request, a number that is new */
{
	HOLDS(AtMostOnce, !ever[who * 6 + nr]);
	ever[who * 6 + nr] = true;
	if
	:: what_ == count -> value++; answer = value
	:: what_ == spend ->
		if
		:: spent && !IS(SPENDS_OF_THE_EXECUTION) -> answer = 0; REACHED(SPENT_REFUSED)
		:: else -> spent = true; answer = 1
		fi
	:: what_ == revoke -> revoked = true; answer = 1
	fi;
	kept[nr % KEEP].number = nr; kept[nr % KEEP].what = what_; kept[nr % KEEP].value = answer;
	newest = nr
}

init {
	byte i, answer, slot;
	mtype op;
	bool behind;
	d_step {
		c_code { now.mutant = chosen("MUTANT", 0); now.reach = chosen("REACH", 0); };
		c_code { now.max_asks = chosen("ASKS", 3); now.max_eids = chosen("EXECUTIONS", 3); };
		c_code { now.max_breaks = chosen("BREAKS", 1); now.max_snaps = chosen("SNAPSHOTS", 1); now.liars = chosen("LIARS", 0); };
		p[0].runs = true; new_life(0); eids = 1; p[0].eid = 1; p[0].m.next = 1; fence = 1; lives = true
	};
	do
	:: atomic {
		if :: i = 0 :: i = 1 fi;
		if
		/* The guest asks, anew or again. */
		:: d_step { p[i].runs && p[i].m.number == 0 && asks < max_asks && p[i].m.next < 6 -> asks++ };
			if
			:: p[i].m.what = count
			:: !spent || asks > 1 -> p[i].m.what = spend
			:: !revoked -> p[i].m.what = revoke
			:: told_revoked -> p[i].m.what = guard
			fi;
			d_step { p[i].m.number = p[i].m.next; p[i].m.next++ }
		:: d_step { liars && p[i].runs && p[i].m.number == 0 && asks < max_asks && p[i].m.next > 1 -> asks++; lied = true };
			if	/* a guest that lies: an earlier number, with any request */
			:: p[i].m.what = count
			:: p[i].m.what = spend
			fi;
			if
			:: p[i].m.number = 1
			:: p[i].m.next > 2 -> p[i].m.number = 2
			fi
		:: d_step { p[i].runs && p[i].m.number > 0 && p[i].wire == 0 && p[i].back == 0 && p[i].m.sent < 5 ->
			p[i].m.sent++;
			p[i].wire = p[i].m.number; p[i].wwhat = p[i].m.what; p[i].wframe = p[i].m.sent;
			p[i].wearlier = (p[i].m.serial < p[i].serial) }
		/* The host takes the frame. */
		:: d_step { p[i].runs && p[i].wire > 0 ->
			if
			:: (p[i].wframe <= p[i].received || p[i].wearlier) && !IS(LOAD_UNNOTICED) ->	/* a rewind is proven */
				REACHED(REWIND_PROVEN);
				p[i].was = 0;
				if
				:: eids < max_eids -> mint(i, p[i].eid, false); session(i)
				:: else -> p[i].runs = false
				fi
			:: else ->
				p[i].received = p[i].wframe;
				op = p[i].wwhat; slot = p[i].wire % KEEP;
				if
				:: (!lives || p[i].eid != fence) && !IS(FENCE_NOT_CHECKED) &&
					!(IS(FENCED_ANSWERED_FROM_RECORD) && kept[slot].number == p[i].wire && kept[slot].what == op) ->
					answer = 0; op = denied
				:: op == guard && IS(GUARD_IN_THE_GUEST) -> answer = !p[i].m.gone /* mutant */
				:: op == guard && !IS(GUARD_IN_THE_GUEST) -> answer = !revoked;	/* read: no number is kept */
					if :: revoked && p[i].life > 1 -> REACHED(REVOKED_IN_A_FORK) :: else fi
				:: op != guard && p[i].wire > newest ->
					HOLDS(Tree, life_of[p[i].eid] == 0 || life_of[p[i].eid] == p[i].life);
					life_of[p[i].eid] = p[i].life;
					decide(p[i].eid, p[i].wire, op)
				:: op != guard && p[i].wire <= newest && kept[slot].number != p[i].wire ->
					REACHED(FORGOTTEN);
					if
					:: IS(OLD_NUMBER_RUNS) -> decide(p[i].eid, p[i].wire, op) /* mutant */
					:: else -> answer = 0; op = denied
					fi
				:: else ->
					if
					:: kept[slot].what != op && !IS(ANOTHER_REQUEST_ANSWERED) ->
						REACHED(CONFLICT); answer = 0; op = denied
					:: else -> answer = kept[slot].value; REACHED(REPEATED_ANSWER)
					fi
				fi;
				p[i].back = p[i].wire; p[i].bwhat = op; p[i].bvalue = answer
			fi;
			p[i].wire = 0; p[i].wwhat = none; p[i].wframe = 0; p[i].wearlier = 0; op = none; answer = 0; slot = 0 }
		/* The guest has its answer. */
		:: d_step { p[i].runs && p[i].back > 0 ->
			if
			:: p[i].bwhat == count && p[i].m.what == count ->
				HOLDS(NoRepeat, holder[p[i].bvalue] == 0 || ((unseen || lied) && holder[p[i].bvalue] == p[i].life));
				if :: holder[p[i].bvalue] > 0 && !lied -> REACHED(LOAD_REPEATS_AN_ANSWER) :: else fi;
				holder[p[i].bvalue] = p[i].life;
				if :: p[i].life > 1 && p[i].bvalue > 1 -> REACHED(VALUE_AFTER_A_REVERT) :: else fi
			:: p[i].m.what == spend && p[i].bvalue > 0 ->
				HOLDS(SingleSpend, (token_life == 0 || (unseen && token_life == p[i].life) || (lied && p[i].bvalue == 1 && p[i].bwhat == spend && token_life == p[i].life)) && p[i].bwhat == spend);
				token_life = p[i].life
			:: p[i].bwhat == revoke && p[i].m.what == revoke -> told_revoked = true; p[i].m.gone = true
			:: p[i].bwhat == guard ->
				HOLDS(RevokedStays, p[i].bvalue == 0 || !told_revoked)
			:: else
			fi;
			p[i].m.number = 0; p[i].m.what = none; p[i].back = 0; p[i].bwhat = none; p[i].bvalue = 0 }
		/* The adversary. */
		:: d_step { p[i].runs && breaks < max_breaks && (p[i].wire > 0 || p[i].back > 0) ->
			breaks++;
			if :: IS(RECORD_FORGOTTEN) -> forget_window() /* mutant */ :: else fi;
			if
			:: BEHIND(i) && !IS(LOAD_UNNOTICED) ->	/* its standing proves it */
				p[i].was = 0;
				if
				:: eids < max_eids -> mint(i, p[i].eid, false); session(i)
				:: else -> p[i].runs = false; session(i)
				fi
			:: else ->
				if	/* it has counted as far as the host has seen, and what would prove it is lost */
				:: p[i].was > 0 && !IS(LOAD_UNNOTICED) ->
					REACHED(LOAD_HIDDEN_BY_A_LOSS);
					p[i].life = p[i].was; p[i].was = 0; unseen = true
				:: else
				fi;
				session(i)
			fi }
		:: d_step { p[i].runs && snaps < max_snaps ->
			snaps++; snap.taken = true; snap.eid = p[i].eid; copym(snap.m, p[i].m) }
		:: d_step { snap.taken && p[i].runs && eids < max_eids && lifes < 5 ->	/* revert */
			copym(p[i].m, snap.m);
			new_life(i);
			if
			:: IS(RESTORE_GOES_ON) -> skip /* mutant */
			:: else ->
				if :: fence == p[i].eid -> lives = false :: else fi;
				mint(i, snap.eid, false)
			fi;
			session(i) }
		:: d_step { snap.taken && !p[i].runs && eids < max_eids ->	/* fork */
			copym(p[i].m, snap.m);
			p[i].runs = true;
			new_life(i); mint(i, snap.eid, true); session(i) }
		:: d_step { snap.taken && p[i].runs && loads < 1 && snap.eid == p[i].eid ->	/* load through the monitor */
			loads++;
			behind = (snap.m.serial < p[i].serial || snap.m.sent < p[i].received);
			copym(p[i].m, snap.m);
			p[i].wire = 0; p[i].wwhat = none; p[i].wframe = 0; p[i].wearlier = 0;
			p[i].back = 0; p[i].bwhat = none; p[i].bvalue = 0;
			if
			:: behind -> slot = p[i].life; new_life(i); p[i].was = slot; slot = 0
			:: else -> unseen = true	/* the host has heard nothing since: the same life */
			fi;
			behind = false }
		:: d_step { p[i].runs && p[i].m.next > 1 && breaks < max_breaks && eids < 3 ->	/* reboot */
			breaks++;
			p[i].m.next = 1; p[i].m.number = 0; p[i].m.what = none; p[i].m.gone = false;
			if	/* nothing that was put back lives on */
			:: p[i].was > 0 -> p[i].life = p[i].was; p[i].was = 0
			:: else
			fi;
			session(i) }
		:: d_step { p[i].runs && i == 0 && p[1].runs ->	/* it is ended */
			p[i].runs = false;
			if :: fence == p[i].eid -> lives = false :: else fi;
			session(i) }
		:: d_step { p[i].runs && IS(FENCE_COMES_BACK) && p[i].eid != fence -> take(p[i].eid, false) } /* mutant */
		:: break
		fi;
		i = 0 }
	od
}
