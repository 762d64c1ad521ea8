// What the two programs share: their settings, their modes, and the calls that are in progress while the service restarts.

import { setTimeout as sleep } from "node:timers/promises";

export const PASSWORD = "a long enough password";
const WORKERS = 4;

// Reads an environment variable.
export function setting(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
}

// Does what the first argument says.
export async function run(modes: Record<string, () => Promise<void>>): Promise<void> {
  const mode = modes[process.argv[2] ?? "session"];
  if (!mode) throw new Error(`${process.argv[2]} is no mode: give ${Object.keys(modes).join(", ")}`);
  await mode();
}

// Creates aliases until stdin ends. Fails if a call failed, or had its effect twice.
export async function callUntilEnd(
  name: string,
  createAlias: (localPart: string, idempotencyKey: string) => Promise<unknown>,
  countAliases: () => Promise<number>,
): Promise<void> {
  let [calls, failed, stopped] = [0, 0, false];
  process.stdin.resume().on("end", () => (stopped = true));
  async function work(): Promise<void> {
    while (!stopped) {
      const number = ++calls;
      try {
        await createAlias(`alias${number}`, `${name}-${number}`);
      } catch (error) {
        failed++;
        console.log(`failed: ${error}`);
      }
      console.log("call", number);
      await sleep(200);
    }
  }
  await Promise.all(Array.from({ length: WORKERS }, work));
  const aliases = await countAliases();
  console.log(`load: ${calls} calls, ${failed} failed, ${aliases} aliases`);
  if (failed > 0 || aliases !== calls) throw new Error("calls failed, or had their effect twice");
}
