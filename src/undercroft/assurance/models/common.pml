/* What all models share. A model is compiled once; what it runs with comes from the environment, so that its
 * negative models (mutants) and its controls are runs of the same program:
 *
 *   MUTANT=n   one mistake is made, which has to break an invariant
 *   REACH=n    the claim "this never happens", which has to be found false: else the model shows nothing
 *   others     bounds, see each model
 *
 * HOLDS prints the invariant's name before the assertion fails, REACHED that of the control. */
c_code {
	static int chosen(const char *name, int otherwise)
	{
		const char *text = getenv(name);
		return text ? atoi(text) : otherwise;
	}
}

byte mutant;
byte reach;

#define HOLDS(name, condition) \
	if :: (condition) :: else -> c_code { printf("broken: " #name "\n"); }; assert(false) fi
#define REACHED(name) \
	if :: (reach == R_##name) -> c_code { printf("reached: " #name "\n"); }; assert(false) :: else fi
#define IS(name) (mutant == M_##name)
