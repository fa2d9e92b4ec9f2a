"""English words of image captions by their part of speech, for the extractor that needs no other package.

What is in no list here and has no telling suffix is a noun: in captions that is the open class. Verbs stand in their
base form. Lists are our own; words were added where captions of everyday scenes were tagged wrongly without them.
"""

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DETERMINERS: Final = _words("""
    a all an another any both countless dozen dozens each eight either eleven enough every few fifty five forty four
    half her his hundred its lots many more most much multiple my neither nine no numerous one other others our own
    seven several six some such ten the their these thirty this those thousand three twelve twenty two various your""")
PREPOSITIONS: Final = _words("""
    aboard about above across after against along alongside amid amidst among amongst around as astride at atop
    before behind below beneath beside besides between beyond by close despite down during except featuring for from
    in including inside into like near next of off on onto opposite out outside over past per round since than
    through throughout toward towards under underneath unlike until up upon via with within without""")
CONJUNCTIONS: Final = _words("""
    & although and because but if nor or plus so then though when where whereas while yet""")
PRONOUNS: Final = _words("""
    anyone anything everyone everything he here herself him himself i it itself me nobody nothing she somebody
    someone something that them themselves there they us we what whatever which who whoever whom whose you""")
AUXILIARIES: Final = _words("""
    am appear appears are aren't ate be become becomes been being bent bit bought broken brought built came can't
    cannot caught could did didn't do does doesn't doing don't done drank drawn driven drunk dug eaten fed flew
    flown get gets getting given goes going gone got gotten had has have having held hidden hung hurt is isn't laid
    lain led left let lets lit live made may might must ran ridden rode said sat seem seems seen shall shot should
    shown sold spread spun stood stuck sunk swam swum taken thought threw thrown torn was wasn't went were weren't
    wet will worn would""")
ADVERBS: Final = _words("""
    abroad again ahead almost already also always anywhere apart ashore away back-to-back backward backwards
    downstairs downward downwards else even ever everywhere far fast forward forwards halfway hard high home-made
    how indoors inside instead just later low maybe mid-air nearby never not now often once only otherwise outdoors
    outside overhead perhaps quite rather side-by-side sideways sometimes somewhere soon still together too twice
    upstairs upward upwards very well why""")

ADJECTIVES: Final = _words("""
    ablaze able abstract adjacent adorable adrift aerial afraid african aged aglow airy ajar akimbo alike alive
    aloft alone alpine american ancient angry angular arabic arctic artistic asian asleep athletic attractive
    australian automatic autumnal available awake bad bald bare barefoot basic beautiful beige best better big
    bitter black black-and-white blind blond blonde blue blunt bored brave bright british broad broken brown
    brunette bulky bumpy busy calm canadian casual central ceramic certain cheap checked checkered cheerful cheesy
    chewy chilly chinese chopped chubby circular civil clean clear close-up closed cloudless cloudy cluttered
    coastal colored colorful coloured colourful comfortable comic common concerned contemporary cool cozy creamy
    crimson crispy cross-legged crowded crunchy curious curly curved cute cyan damp dangerous dark dead deaf
    decorative deep delicious dental diagonal different digital dim dirty disabled disposable distant domestic
    dotted double-decker dry due dull dusty dutch eastern elastic elderly electric electrical electronic elegant
    empty english enormous entire equatorial european excited exotic expensive fallen famous fancy far-off
    fast-moving fat festive fifth final first flat flexible floral fluent fluffy foggy forbidden foreign formal
    fourth free french fresh friendly front-facing frozen full funny furry fuzzy gentle geographic geometric german
    giant gigantic glossy golden good gooey gorgeous gothic grassy gray greasy great greek green grey grumpy hairy
    handmade handsome happy hard hazy healthy heavy hexagonal hidden high-rise hilly historic historical hollow holy
    homemade horizontal hot huge hungry icy identical ill indian indoor industrial inflatable informal injured inner
    invisible irish italian japanese juicy korean large last lazy leafy left left-hand light-colored lightweight
    likely little live local lone lonely long long-sleeved loose loud lovely lower lunar luxurious mad magenta main
    major manual maroon marshy massive matching matte mechanical medical medieval messy metallic mexican middle-aged
    military mini miniature minor misty mobile modern moist monochrome moonlit mossy mountainous muddy multi-colored
    multicolored musical mute naked narrow national native navy nearby neat neutral new next-door nice nordic normal
    northern nuclear nude obvious odd old older oldest olympic opaque open ordinary oriental ornate outdoor outer
    oval overcast overhead oversized paisley pale panoramic parallel particular partly patterned picturesque pink
    plaid plain playful plush pointed pointy polar polka-dot poor popular porcelain portable possible pregnant proud
    purple quick quiet rainbow-colored rainy rapid rare raw ready rear-facing rectangular red regular relaxed
    religious residential retro reverse rich right right-hand rigid ripe risky rocky rolled-up roman romantic rotten
    rough round royal rural russian rustic rusty sacred sad safe salty same sandy savory scared scenic scottish
    second separate serious shady shallow sharp shiny shirtless short shut shy sick silly similar simple single
    skeptical skinny sleepy sleeveless slender slick slim slippery slow small smooth smug snow-covered snowy soaked
    soft solar sole solid solitary sour southern spacious spanish special spicy spotted stainless stale standard
    steep stiff stormy straight strange stray striped strong stuffed sturdy suburban sudden sunlit sunny sure
    surprised swampy swedish sweet swift swiss tall tame tan tasty teal teenage thick thin third thirsty tidy tight
    tiny tired traditional transparent triangular triple tropical turkish turquoise twin typical ugly underground
    underwater unique unusual upper upright upset upside upside-down urban usual vegan vegetarian vertical victorian
    vintage violet visible vivid warm wavy weak weary weird well-dressed well-lit western wet white whole wide wild
    windy wintry wooded wooden woody woolen woolly worried worse worst yellow young younger youngest""")
# Nouns that often stand before another noun as its adjective.
NOUN_OR_ADJECTIVE: Final = _words("""
    adult antique bamboo bronze chemical classic cold collective commercial concrete convertible dear double elder
    female fluid general gold ground human individual ivory junior key lavender level light liquid male material
    middle mint novel official orange original past patient pet plastic potential present professional public rear
    relative remote representative rose senior silver square stable teen veteran""")

# Never nouns in captions.
VERBS: Final = _words("""
    accept accompany add adjust admire adorn aim allow amuse appear approach arrange arrive ascend ask assemble
    assist attach attempt await bake bask bathe become beg begin believe belong bend blink boil borrow bother bring
    build bury buy calm capture carry carve cater celebrate chew choose clean clear climb cling close collapse
    collect collide combine compare compete complete comprise concentrate conduct confuse congratulate connect
    consider consist consult consume contain continue converse cough crawl create crouch cuddle dangle decide
    decorate deliver demonstrate deny depart depict descend destroy devour die dig dine direct disappear discuss
    dismount distribute dive divide doze drag draw drizzle drown dry earn eat educate embark embrace emit empty
    enclose encounter encourage engage enjoy enter entertain entice equip erect erupt escape evade evaporate examine
    exhibit exist expect explode explore extend fail fasten feature feed fetch fill find fix flap flee fling flip
    float flutter fold follow forage freeze frown gallop gather gaze giggle give glance glare glimmer glisten gnaw
    grab grasp grate graze greet grimace grow guide gulp hang happen hate haul heal hear help hide hitch hold honk
    hop hover huddle hurl hurry ignore illuminate imitate improve include indicate inflate inform inhabit inspect
    install intend interact introduce invent invite involve jog join juggle keep kill kneel knit know lack laugh lay
    lead lean leap learn leave lend let lick lie listen litter loom lose lounge lower lurch lurk make manage
    maneuver marry mean meet melt mend mention mingle mount mow munch navigate nestle nibble obey obscure observe
    obtain occupy occur offer open operate overcome overflow overlap overlook owe participate pave peck peel peer
    perform permit persuade plunge ponder portray pose possess pounce pour pray prefer prepare preserve pretend
    prevent promote prop protect protrude prove provide prowl prune pull punt push put raise read realize receive
    recline recognize recover reduce refer reflect refuse relax remain remember remind remove repair replace
    represent require rescue resemble retrieve revive revolve rinse roam roost rotate satisfy saunter say scare
    scatter scowl scrape scrub seat see seek seem select sell send separate serve settle sew shave shear shove
    showcase shred shut simmer sing sip sit slouch slurp smear smirk snap sneak sneeze sniff snore snuggle soar sob
    solve sow speak spend spew sprawl sprout squat stare stay steal steer stir stitch stoop straddle strew stride
    strive stuff stumble succeed suck suggest surge surround suspend swallow swat swear sweep swerve swim swirl take
    teach tease teeter tell tend tether thank thaw think threaten thrive throw tidy tilt topple toss tow transform
    traverse trot trudge try tug tumble twinkle twist understand unfold unite unload unlock unpack unroll untie
    unveil unwrap urge use vanish vend wade wait wake wander want warm warn wear weave weep welcome whisper win wipe
    wonder wrestle write yawn yell zoom""")
# Nouns or verbs; behind a noun they are taken for its verb: "a man rides", "people walk".
NOUN_OR_VERB: Final = _words("""
    bite bloom blow bob bounce break brush buckle burn burst call cast catch change chase chat check cheer chop
    clutch control cook cool count cradle crash cross cry cut dance dash design display dribble drift drink drip
    drive drop dump exit fall fear finish fit flash flow fly form fry glide glow grill grip growl hail hike hit howl
    hug hunt jump kick kiss land lift load lock look love march measure meow mix move nap need order pack paddle
    pass peek perch pinch pitch play plow point poke pop press prod puff race rake reach reads record rest ride rise
    roast roll rope rub run sail salute score scratch scream search set shake share shelter shine shoot shout show
    skate ski skid sled sleep slice slide slip smash smile snooze sparkle spill spin splash split spray spread
    sprinkle sprint squeeze stack stand start steam stick stop strap stretch stroke stroll struggle study surf sway
    swing tackle tag talk taste tear touch trade transport travel trim trip turn twirl type vault view visit walk
    wash watch wave work wrap zip""")
# Nouns that are verbs only where nothing else can be: behind "to", a pronoun or an auxiliary.
NOUN_SELDOM_VERB: Final = _words("""
    anchor area arm axe baby back badge bag balance ball band banner bark bat bath bear bed beer belly bench bicycle
    bike blanket board boat book bottle bottom bowl box brake branch brand breakfast brick bridge bus bush butter
    button cake camera can canoe cap carpet cat center chair chef chest circle claw clock clown coach coat coffee
    color colour computer concert corner cream crowd crown cup curtain deck dessert dinner dish dock doctor dog
    drain dress duck dust ear edge egg elbow end engine eye face fan farm father feast feather fence field film fin
    finger fire fish flag floor flower foot fork front game garden gate glass group guard guest hammer hand harbor
    hat head heater hedge helmet horn horse hose host house ice judge juice kite knee knife lace lawn leaf ledge leg
    light line lip lunch map mask mat match meat microwave middle milk mirror model monitor mother motor motorcycle
    mouse mouth movie nail neck needle nest nose nurse oil oven paint pan paper parade park party path paw pedal
    pepper pet phone photo picture pie pile pillow pilot pin pipe pizza place plant plate pole post pot pump radio
    raft rail rain ramp remote ribbon ring road rock room root row rug saddle salad salt sand sandwich sauce saw
    screw seed shade sheet shelf shell ship shoe shoulder shower side sign sink skateboard skirt smoke snack snow
    snowboard sock song soup space spoon sport spot square staircase star stem step stone stove sugar surfboard
    table tail tank tap tea team telephone thread thumb tie tile toast toaster toe tongue tool top towel tower track
    trail train treat tree trick trunk uniform vacuum video wall water web weed wheel wind wine wing""")

# Nouns with suffixes of verbs, adverbs and adjectives.
NOUNS_WITH_OTHER_SUFFIXES: Final = _words("""
    abacus ally anomaly archive armful assembly awning beast bed bedding beehive belly bible biped birdseed blowfish
    bobsled breast breed bubble building bully bunkbed bus butterfly cable cactus campus captive carving catfish
    ceiling chest chive chorus circus clearing clothing coating constable contest covering crayfish creed crest
    crossing crucible darling daybed deed detective dish dive dolly dragonfly drawing dressing duckling dumpling
    earring engraving evening executive family feast feed filling firefly fish five flatbed flooring flowerbed
    forest frosting fugitive fungus gathering goldfish gosling greed greeting guest gully handful harvest hayshed
    herring hibiscus hive holly homestead horsefly hotbed housefly hundred icing interest jelly jellyfish king
    lettering lighting lightning lily locomotive marble marking melancholy midwest monopoly moped morning motive
    mouthful native need nest northwest octopus offspring olive opening outing painting paneling parish pebble pest
    piping platypus plumbing polish potbelly priest pudding quest radish railing rainforest reed reply request ring
    sapling scaffolding seabed seating seaweed seed seedling setting shed shellfish shred sibling siding sled sling
    southwest speed spoonful spring stable starfish starling status steed string stuffing sunbed supply swordfish
    syllable table tempest test thimble thing thoroughbred timetable toolshed topping tumbleweed turntable
    underbelly vegetable vest viking virus walrus waterbed watershed weed west wing wiring""")
# Before a noun they name its kind, and taggers call them nouns.
KINDS_IN_ING: Final = _words("""
    baking boarding bowling boxing changing cooking cutting dining diving driving farming fishing frying gaming
    hiking hunting ironing jogging knitting landing living loading measuring meeting mixing parking polishing racing
    rowing sailing serving sewing shopping skateboarding skating skiing sledding snowboarding surfing swimming
    training vending waiting wakeboarding washing wedding weightlifting writing""")

# Plural forms whose singular no rule gives.
IRREGULAR_PLURALS: Final = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "grandchildren": "grandchild",
    "oxen": "ox",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "lice": "louse",
    "dice": "die",
    "knives": "knife",
    "wives": "wife",
    "lives": "life",
    "leaves": "leaf",
    "cloverleaves": "cloverleaf",
    "loaves": "loaf",
    "calves": "calf",
    "halves": "half",
    "wolves": "wolf",
    "elves": "elf",
    "shelves": "shelf",
    "bookshelves": "bookshelf",
    "selves": "self",
    "hooves": "hoof",
    "scarves": "scarf",
    "dwarves": "dwarf",
    "thieves": "thief",
    "sheaves": "sheaf",
    "wharves": "wharf",
    "cookies": "cookie",
    "brownies": "brownie",
    "selfies": "selfie",
    "movies": "movie",
    "hoodies": "hoodie",
    "pies": "pie",
    "ties": "tie",
    "zombies": "zombie",
    "smoothies": "smoothie",
    "veggies": "veggie",
    "birdies": "birdie",
    "collies": "collie",
    "genies": "genie",
    "calories": "calorie",
    "shoes": "shoe",
    "horseshoes": "horseshoe",
    "snowshoes": "snowshoe",
    "canoes": "canoe",
    "toes": "toe",
    "tiptoes": "tiptoe",
    "does": "doe",
    "oboes": "oboe",
    "axes": "axe",
    "pickaxes": "pickaxe",
    "aches": "ache",
    "headaches": "headache",
    "moustaches": "moustache",
    "mustaches": "mustache",
    "quiches": "quiche",
    "avalanches": "avalanche",
    "quizzes": "quiz",
    "buses": "bus",
    "minibuses": "minibus",
    "gases": "gas",
    "lenses": "lens",
    "cacti": "cactus",
    "fungi": "fungus",
    "octopi": "octopus",
    "bacteria": "bacterium",
    "crises": "crisis",
    "oases": "oasis",
    "phenomena": "phenomenon",
    "skis": "ski",
    "taxis": "taxi",
    "kiwis": "kiwi",
    "bikinis": "bikini",
    "zucchinis": "zucchini",
    "menus": "menu",
    "emus": "emu",
}
# Words in -s that have no other singular, or name one thing by a plural.
SAME_IN_PLURAL: Final = _words("""
    aerobics athletics atlas barracks bias binoculars canvas ceramics chaos christmas clothes cosmos electronics
    eyeglasses gas goggles graphics gymnastics headquarters jeans leggings lens mathematics molasses news overalls
    pajamas pants physics pliers politics pyjamas rhinoceros scissors series shorts species sunglasses thermos
    tights tongs trousers tweezers""")
