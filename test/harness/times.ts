/**
 * Returns how often a test repeats something random: `few` times, which finds the faults that a change is likely to
 * make, or `many` times if `LIFEBOAT_TEST_THOROUGH=1` is set.
 */
export function times(few: number, many: number): number {
  return process.env.LIFEBOAT_TEST_THOROUGH === '1' ? many : few;
}
