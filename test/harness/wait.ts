/** For `vi.waitFor` in quick tests. Its default limit of a second is shorter than a busy machine may stall. */
export const WAIT = { timeout: 15_000 };

/** The same for tests that may take minutes. */
export const LONG_WAIT = { timeout: 60_000 };
