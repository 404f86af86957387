/** For `vi.waitFor` in quick tests. Its own limit of a second is less than a busy machine may stand still. */
export const WAIT = { timeout: 15_000 };

/** The same in tests that may take minutes. */
export const LONG_WAIT = { timeout: 60_000 };
