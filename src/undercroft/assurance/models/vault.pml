/* The log of a host's vaults beside a TPM: start, groups, anchors, clean end, adoption.
 *
 * As it is in src/undercroft/vault: start.py (the steps of a start, and what fits), history.py (what a log
 * says when it is read), engine.py and work.py (a group that is collected while another runs; answers leave
 * after the fdatasync, those of final spends after the extension). One machine, one name of each kind.
 *
 * Adversary: the process dies between any two writes of disk or TPM; whenever it is dead, any image that the
 * disk ever was is put back, one from another branch too; the TPM is absent at a start. An administrator
 * adopts any loss, as often as the bound says. The TPM itself cannot be put back.
 *
 * Heads are numbers of groups, as no two groups have one head; what the index holds is the number of its
 * extensions and the group of the last, as an extension stands for all before it. */
#include "common.pml"

#define MOST 16		/* groups; the bound is MAX_GROUPS */
#define BLOCK 5		/* start.ADOPTED_EPOCHS: more than there are starts */
#define VALUES 4	/* of one epoch: answers.SPAN */

#define M_COUNT_INSTEAD_OF_EXTEND 1	/* write, then count up: the index stands for no group */
#define M_INDEX_IGNORED 2
#define M_EPOCH_GOES_ON 3		/* after a crash the epoch is the one before */
#define M_ANSWER_BEFORE_SYNC 4
#define M_FINAL_WITHOUT_ANCHOR 5
#define M_EXTEND_BEFORE_SYNC 6
#define M_NO_INTENT 7
#define M_EPOCH_BEFORE_INCREMENT 8
#define M_READ_BEFORE_SYNC 9
#define M_ADOPTED_ABOVE_THE_IMAGE 10	/* base = epoch of the image + BLOCK - counter, as it was once */
#define M_SERVES_WITHOUT_ITS_TPM 11
#define M_NOTE_BEFORE_EXTEND 12
#define M_HEADS_FORGOTTEN 13		/* only what was noted is looked for in the index */
#define M_END_WITHOUT_ANCHOR 14
#define M_SNAPSHOT_WITHOUT_SPENDS 15
#define M_SNAPSHOT_WITHOUT_INDEX 16
#define M_EMPTY_LOG_IS_NEW 17		/* a log that is gone is begun anew, whatever the TPM has */
#define M_SPEND_NOT_LOOKED_UP 18
#define M_REVOCATIONS_IN_MEMORY 19	/* they do not reach the log */
#define M_STALE_READ 20			/* reads are of what was durable when the epoch began */
#define M_VALUES_FROM_ZERO 21		/* the epoch is not part of the value */
#define M_VALUES_FALL 22		/* from the epoch's last one down */

#define R_VALUE_IN_SECOND_EPOCH 1
#define R_FINAL_AFTER_A_CRASH 2
#define R_EARLIER_IMAGE_SERVED 3	/* with what was void missing */
#define R_REFUSED 4
#define R_ADOPTED_TWICE 5
#define R_EXTENDED_AND_NOT_NOTED 6
#define R_CLEAN_END_THEN_SERVED 7
#define R_SNAPSHOT_THEN_SERVED 8
#define R_FRESH_READ 9
#define R_RETRIED_FINAL 10
#define R_DECIDED_WHILE_A_GROUP_RUNS 11
#define R_GUARD_REFUSED 12

#define FLOOR (mem.last < mem.epoch * VALUES && !IS(VALUES_FROM_ZERO) -> mem.epoch * VALUES : mem.last)

typedef Log {
	byte epoch;
	byte base;
	byte goal;		/* of an intent: the counter + 1; 0: none */
	byte held;		/* what the index held when the log last said so */
	bool counted;
	bool closed;
	unsigned heads : 16;	/* of groups since then */
	byte last;		/* value of the counter */
	byte height;		/* of the ledger */
	bool spent;
	bool revoked
}

mtype = { down, refused, intent, increment, begin, extend, note, serve, ending };
mtype = { nothing, value, final, again, append, revoke, latest, guard, noting };

Log log[MOST];			/* the log up to each group that ever was durable; 0: the empty log */
byte groups = 1;
byte disk;			/* its last group now */
byte counter = 1;		/* the TPM's */
byte index;			/* how often it was extended, */
byte extended;			/* and with which group last */

mtype at = down;
Log mem;			/* in memory; lost with the process */
Log grp;			/* what the group that runs will have made of the log */
bool unfit;
byte runs;			/* 0 no group, 1 to be written, 2 to be anchored, 3 to be released */
bool anew;			/* the group is a snapshot */
mtype asked = nothing;		/* of the group that is collected: what, its answer, the least height it may tell */
byte answer, least;
mtype waits = nothing;		/* the same of the group that runs */
byte wanswer, wleast;

/* What was told, which no program knows. */
byte granted[24];		/* of each epoch: its values, a bit each */
byte most;			/* value */
unsigned served : 24;		/* epochs */
byte told_height, safe_height;	/* acknowledged and not void; that before the last anchor */
bool told_revoked, safe_revoked;
bool told_final;		/* a final spend was granted */
bool tried;			/* one was decided in the log, and its answer not heard */
bool tampered;			/* a disk was put back, or a TPM absent */
bool absent;			/* at this start */
bool crashed, lost, ended, compacted;
byte adoptions;
byte max_groups, max_adoptions, max_put_back, put_back;
bool idle;			/* nothing is asked: starts alone */

inline copy(to, from)
{
	to.epoch = from.epoch; to.base = from.base; to.goal = from.goal; to.held = from.held;
	to.counted = from.counted; to.closed = from.closed; to.heads = from.heads; to.last = from.last;
	to.height = from.height; to.spent = from.spent; to.revoked = from.revoked
}

inline clear(it)
{
	it.epoch = 0; it.base = 0; it.goal = 0; it.held = 0; it.counted = 0; it.closed = 0; it.heads = 0;
	it.last = 0; it.height = 0; it.spent = 0; it.revoked = 0
}

inline write(what)		/* one write, one fdatasync: there or not */
{
	what.heads = what.heads | (1 << groups);
	copy(log[groups], what);
	disk = groups;
	groups++
}

inline anchor()
{
	index++;
	extended = disk;
	safe_height = told_height;
	safe_revoked = told_revoked
}

inline dies()
{
	clear(mem); clear(grp);
	at = down; runs = 0; anew = 0; asked = nothing; answer = 0; least = 0;
	waits = nothing; wanswer = 0; wleast = 0; unfit = 0; absent = 0
}

inline tell(what, with, floor)
{
	if
	:: what == value ->
		HOLDS(NoRepeat, !(granted[with / VALUES] & (1 << (with % VALUES))));
		HOLDS(MonotonePerName, with > most || adoptions > 1);
		granted[with / VALUES] = granted[with / VALUES] | (1 << (with % VALUES));
		if :: with > most -> most = with :: else fi;
		if :: with / VALUES > 2 -> REACHED(VALUE_IN_SECOND_EPOCH) :: else fi
	:: what == final || what == again ->
		HOLDS(SingleSpend, !told_final);
		told_final = true; tried = false;
		if :: crashed -> REACHED(FINAL_AFTER_A_CRASH) :: else fi;
		if :: what == again -> REACHED(RETRIED_FINAL) :: else fi
	:: what == append ->
		HOLDS(MonotonePerName, with >= told_height);	/* a read may have told it already */
		told_height = with
	:: what == revoke -> told_revoked = true
	:: what == guard ->
		HOLDS(RevokedStays, with || !floor);
		if :: with -> REACHED(GUARD_REFUSED) :: else fi
	:: what == latest ->
		HOLDS(FreshLatest, with >= floor);
		if :: with > 0 -> REACHED(FRESH_READ) :: else fi;
		if :: with > told_height -> told_height = with :: else fi
	:: else
	fi
}

inline judge()			/* start._misfit */
{
	unfit = false;
	if
	:: !(mem.counted || mem.goal > 0 || mem.held > 0) ->
		unfit = (index > 0 && !IS(EMPTY_LOG_IS_NEW))
	:: else ->
		if
		:: index == mem.held || IS(INDEX_IGNORED)
		:: else ->
			if
			:: index == mem.held + 1 && (mem.heads & (1 << extended)) && !IS(HEADS_FORGOTTEN) ->
				REACHED(EXTENDED_AND_NOT_NOTED)
			:: index == mem.held + 1 && IS(COUNT_INSTEAD_OF_EXTEND) -> skip /* mutant */
			:: else -> unfit = true
			fi
		fi;
		if
		:: mem.goal == 0 -> unfit = (unfit || counter != mem.epoch - mem.base)
		:: else -> unfit = (unfit || counter < mem.goal - 1 || counter > mem.goal)
		fi;
		if :: IS(INDEX_IGNORED) -> unfit = false /* mutant */ :: else fi
	fi
}

inline rebase(loss)		/* start._base */
{
	if
	:: loss && IS(ADOPTED_ABOVE_THE_IMAGE) -> /* mutant */
		if :: mem.epoch + BLOCK > counter + mem.base -> mem.base = mem.epoch + BLOCK - counter :: else fi /* mutant */
	:: loss && !IS(ADOPTED_ABOVE_THE_IMAGE) && !(mem.counted && index > 0 &&
		counter >= (mem.goal == 0 -> mem.epoch - mem.base : mem.goal - 1)) ->
		mem.base = (mem.epoch / BLOCK + 2) * BLOCK
	:: else ->
		if :: mem.epoch > counter + mem.base -> mem.base = mem.epoch - counter :: else fi
	fi
}

inline serves()
{
	HOLDS(FailClosed, !absent && !unfit);
	HOLDS(RevokedStays, mem.revoked || !told_revoked);
	HOLDS(NoSilentRollback, mem.height >= told_height && (mem.spent || !told_final));
	HOLDS(NoRepeat, !(served & (1 << mem.epoch)));
	served = served | (1 << mem.epoch);
	if :: lost && (mem.last < most) && adoptions == 0 -> REACHED(EARLIER_IMAGE_SERVED) :: else fi;
	if :: adoptions == 2 -> REACHED(ADOPTED_TWICE) :: else fi;
	if :: ended && !lost -> REACHED(CLEAN_END_THEN_SERVED) :: else fi;
	if :: compacted && !lost -> REACHED(SNAPSHOT_THEN_SERVED) :: else fi;
	at = serve
}

init {
	byte i;
	d_step {
		c_code { now.mutant = chosen("MUTANT", 0); now.reach = chosen("REACH", 0); };
		c_code { now.max_groups = chosen("MAX_GROUPS", 9); now.max_adoptions = chosen("ADOPTIONS", 1); };
		c_code { now.max_put_back = chosen("PUT_BACK", 2); now.idle = chosen("IDLE", 0); }
	};
	do
	/* The adversary. */
	:: d_step { at != down && at != refused -> dies(); crashed = true; ended = false }
	:: atomic { at == down && put_back < max_put_back && groups > 1 ->
		i = 0;
		do
		:: i < groups - 1 -> i++
		:: i != disk -> break
		:: i == groups - 1 && i == disk -> i = 0; break
		od;
		d_step {
			disk = i; i = 0; put_back++;
			tampered = true; lost = true; ended = false;
			told_height = safe_height; told_revoked = safe_revoked
		}}
	/* The start. */
	:: d_step { at == down && groups + 3 <= max_groups && counter < 7 ->	/* 1 */
		copy(mem, log[disk]);
		judge();
		if
		:: unfit ->
			HOLDS(CrashIsNoRollback, tampered);
			REACHED(REFUSED);
			at = refused
		:: else -> rebase(false); at = intent
		fi }
	:: d_step { at == down && groups + 3 <= max_groups && log[disk].counted && !tampered ->	/* the TPM is absent */
		tampered = true;
		if
		:: IS(SERVES_WITHOUT_ITS_TPM) -> absent = true; copy(mem, log[disk]); mem.epoch++; serves() /* mutant */
		:: else -> at = refused
		fi }
	:: d_step { at == refused -> dies() }	/* another image, or the TPM, is put where it belongs */
	:: d_step { at == refused && unfit && adoptions < max_adoptions ->
		adoptions++;
		rebase(true);
		mem.held = index; mem.heads = 0;
		told_height = 0; told_revoked = 0; told_final = 0; tried = 0; safe_height = 0; safe_revoked = 0;
		unfit = false; at = intent }
	:: d_step { at == intent ->	/* 2 */
		if
		:: IS(NO_INTENT) -> skip /* mutant */
		:: else -> mem.goal = counter + 1; write(mem)
		fi;
		at = (IS(EPOCH_BEFORE_INCREMENT) -> begin : increment) }
	:: d_step { at == increment ->	/* 3 */
		if
		:: IS(EPOCH_GOES_ON) && mem.epoch > 0 && !mem.closed && !(adoptions > 0) -> skip /* mutant */
		:: else -> counter++
		fi;
		at = (IS(EPOCH_BEFORE_INCREMENT) -> extend : begin) }
	:: d_step { at == begin ->	/* 4 */
		mem.epoch = counter + mem.base;
		if :: IS(EPOCH_BEFORE_INCREMENT) -> mem.epoch = mem.epoch + 1 /* mutant */ :: else fi;
		mem.counted = 1; mem.goal = 0; mem.closed = 0; mem.held = index; mem.heads = 0;
		write(mem);
		at = (IS(EPOCH_BEFORE_INCREMENT) -> increment : (IS(NOTE_BEFORE_EXTEND) -> note : extend)) }
	:: d_step { at == extend ->	/* 5 */
		anchor();
		if :: IS(NOTE_BEFORE_EXTEND) -> serves() /* mutant */ :: else -> at = note fi }
	:: d_step { at == note ->
		mem.held = index; mem.heads = 0;
		if
		:: IS(NOTE_BEFORE_EXTEND) -> mem.held = index + 1; write(mem); at = extend /* mutant */
		:: else -> write(mem); serves()
		fi }
	/* The engine: a request is decided, */
	:: atomic { at == serve && !idle && asked == nothing && groups + (runs == 1 -> 2 : 1) <= max_groups ->
		if
		:: d_step { FLOOR + 1 < (mem.epoch + 1) * VALUES ->
			mem.last = FLOOR + 1;
			asked = value;
			answer = (IS(VALUES_FALL) -> (2 * mem.epoch + 1) * VALUES - mem.last : mem.last) }
		:: d_step { !mem.spent || IS(SPEND_NOT_LOOKED_UP) -> mem.spent = true; asked = final; tried = true }
		:: d_step { mem.spent && tried && runs == 0 -> asked = again }
		:: d_step { mem.height < 2 -> mem.height++; asked = append; answer = mem.height }
		:: d_step { !mem.revoked -> mem.revoked = true; asked = revoke }
		:: d_step { runs > 0 || crashed -> asked = latest; answer = mem.height; least = told_height;
			if :: IS(STALE_READ) -> answer = grp.height /* mutant */ :: else fi }
		:: d_step { told_revoked || (runs > 0 && mem.revoked) ->
			asked = guard; answer = mem.revoked; least = told_revoked }
		fi;
		if :: runs > 0 -> REACHED(DECIDED_WHILE_A_GROUP_RUNS) :: else fi;
		if :: IS(READ_BEFORE_SYNC) && asked == latest ->
			d_step { tell(asked, answer, least); asked = nothing; answer = 0; least = 0 } /* mutant */
		:: else fi }
	/* its group is closed, */
	:: atomic { at == serve && runs == 0 && asked != nothing ->
		if
		:: anew = false
		:: asked == value -> anew = true
		fi;
		d_step {
			copy(grp, mem);
			waits = asked; wanswer = answer; wleast = least;
			asked = nothing; answer = 0; least = 0;
			runs = 1;
			if
			:: waits == latest || waits == guard || waits == again -> runs = 3
			:: IS(ANSWER_BEFORE_SYNC) -> tell(waits, wanswer, wleast); waits = noting /* mutant */
			:: IS(EXTEND_BEFORE_SYNC) && waits == final -> index++; extended = groups /* mutant */
			:: else
			fi
		}}
	/* written, */
	:: d_step { at == serve && runs == 1 ->
		if
		:: anew ->
			grp.heads = 0; compacted = true;
			if
			:: IS(SNAPSHOT_WITHOUT_SPENDS) -> grp.spent = false /* mutant */
			:: IS(SNAPSHOT_WITHOUT_INDEX) -> grp.held = 0 /* mutant */
			:: else
			fi
		:: IS(REVOCATIONS_IN_MEMORY) -> grp.revoked = false /* mutant */
		:: else
		fi;
		write(grp);
		mem.heads = grp.heads;
		clear(grp);
		anew = false;
		runs = (waits == final && !IS(EXTEND_BEFORE_SYNC) && !IS(FINAL_WITHOUT_ANCHOR) -> 2 : 3) }
	/* anchored where it has a final spend, */
	:: d_step { at == serve && runs == 2 -> anchor(); runs = 3 }
	/* and its answers are released. */
	:: d_step { at == serve && runs == 3 ->
		tell(waits, wanswer, wleast);
		if
		:: waits == final && !IS(FINAL_WITHOUT_ANCHOR) -> mem.held = index; mem.heads = 0
		:: else
		fi;
		waits = nothing; wanswer = 0; wleast = 0; runs = 0 }
	:: d_step { at == serve && runs == 0 && asked == nothing && groups < max_groups ->	/* start.stop */
		mem.closed = true;
		write(mem);
		at = ending }
	:: d_step { at == ending ->
		if
		:: IS(END_WITHOUT_ANCHOR) -> safe_height = told_height; safe_revoked = told_revoked /* mutant */
		:: else -> anchor()
		fi;
		dies(); ended = true }
	/* The bound. */
	:: at == down && (groups + 3 > max_groups || counter == 7) -> break
	:: at == refused -> break
	od
}
