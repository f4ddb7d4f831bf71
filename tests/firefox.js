/* Drives Firefox through the laboratory, for tests/test_laboratory.py, and prints what it found:

   node firefox.js FIREFOX ADDRESS WIDTH dark|light AXE OPTIONS STATES, where AXE is a file with
   axe-core, and its OPTIONS and STATES, a list of experiments, are JSON. Playwright drives only
   Firefoxes of its own making. */
const fs = require("fs");
const puppeteer = require("puppeteer-core");

const [firefox, address, width, scheme, axe, rules, states] = process.argv.slice(2);
const TRAIN = "[data-lab-train]";
const options = {
  browser: "firefox",
  executablePath: firefox,
  extraPrefsFirefox: { "ui.systemUsesDarkTheme": Number(scheme === "dark") },
  defaultViewport: { width: Number(width), height: 844 },
};

async function drive(browser) {
  const page = await browser.newPage();
  const seen = [];
  page.on("console", (message) => message.type() === "error" && seen.push(message.text()));
  page.on("pageerror", (error) => seen.push(String(error)));
  page.on("request", (request) => {
    const inside = [address, "data:", "blob:", "about:"];
    if (!inside.some((start) => request.url().startsWith(start))) seen.push(request.url());
  });
  const text = (selector) => page.$eval(selector, (element) => element.innerText);
  const said = (selector, start) => page.waitForFunction(
    (s, t) => document.querySelector(s)?.textContent.startsWith(t),
    { timeout: 120_000 }, selector, start,
  );
  const press = async (selector, key) => {
    await page.focus(selector);
    await page.keyboard.press(key);
  };
  const open = (place) => page.goto("about:blank").then(() => page.goto(address + place));

  await open("chapters/laboratory.html");
  const dark = await page.evaluate(() => matchMedia("(prefers-color-scheme: dark)").matches);
  await press(TRAIN, "Enter");
  await said("[data-lab-progress]", "Epoch");
  await press(TRAIN, "Enter");
  const stopped = await text(TRAIN);
  await press("[name=technique]", "ArrowDown");
  await press("[name=strength]", "ArrowLeft");
  const changed = page.url();

  const restored = [];
  for (const state of JSON.parse(states)) {
    await open(`chapters/laboratory.html#${state}`);
    await page.$eval("[name=noise]", (e) => e.dispatchEvent(new Event("input", { bubbles: true })));
    restored.push(page.url().split("#")[1]);
  }

  await open("chapters/laboratory.html");
  await page.click(TRAIN);
  await said("[data-lab-result]", "After");
  const result = await page.$eval("[data-lab-result]", (element) => element.textContent);
  await page.click("[data-do=sample]");
  await page.waitForSelector("[data-lab-pad-text] p:nth-child(2)");
  const pad = await text("[data-lab-pad-text]");
  await page.evaluate(fs.readFileSync(axe, "utf-8"));
  const check = (options) => axe.run("[data-lab]", options);
  const { violations } = await page.evaluate(check, JSON.parse(rules));

  await open("chapters/04_dropout.html");
  await press(TRAIN, "Enter");
  await said("[data-lab-result]", "After");
  const chapter = await text("[data-lab-result]");
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  return { dark, stopped, changed, restored, result, pad, violations, chapter, wide, seen };
}

puppeteer.launch(options).then(async (browser) => {
  try {
    console.log(JSON.stringify(await drive(browser)));
  } finally {
    await browser.close();
  }
});
