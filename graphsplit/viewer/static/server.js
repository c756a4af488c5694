// Requests to the server. Addresses are relative to the page's own, which contains the token.

export async function ask(path, sent) {
  const options = sent === undefined ? {}
    : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(sent) };
  let answer;
  try {
    answer = await (await fetch(`api/${path}`, options)).json();
  } catch {
    throw new Error("the server does not answer; is graphsplit view still running?");
  }
  if (answer.error) throw new Error(answer.error);
  return answer;
}

export async function finished(number) {
  for (let wait = 150; ; wait = Math.min(wait * 1.3, 1500)) {
    const answer = await ask(`job?job=${encodeURIComponent(number)}`);
    if (answer.done) return answer;
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}
