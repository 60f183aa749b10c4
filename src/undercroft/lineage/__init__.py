"""The tree of executions: how each began, what a rollback would bring back, the patch floor. No I/O."""
