"""Answers and references of every notation, as tables: + for right, - for wrong, then response | reference."""

import re

# Single values, lists, relations, and so on, of the kind expression.
EXPRESSIONS = {
    "bases": r"""
        + 1011_{2} | 1011_2
        + 1011 base 2 | 1011_2
        + 1011_{\text{two}} | 1011_2
        + $1011_2$ | 1011_{2}
        + 1011 (base 2) | 1011_2
        + 3A_{12} | 3A_{12}
        + $1a3_{16}$ | 1A3_{16}
        + 0b1 | 0b1
        - 1011_3 | 1011_2
        - 1101_2 | 1011_2
        - 110_2 | 1011_2
        - 1011_{4} | 1011 base 2
        - A3_{12} | 3A_{12}
        - 11_2 | 3
        - 4210_7 | 4210_8
        - 123_{\text{five}} | 123_{\text{six}}
    """,
    "relations": r"""
        - x^2+5=0 | x^2+7=0
        - x^2+3x+10=0 | x^2+x+10=0
        - 1=2 | x^2=-1
        - 2=2 | \sin^2 x+\cos^2 x=1
        - x=x | \sin^2 x+\cos^2 x=1
        - 1<2 | 3<5
        - 5>4 | x>4
        - y=2t | y=3t
        - A=4\pi r^2 | A=\pi r^2
        - V=3h | V=2h
        - E=mc^3 | E=mc^2
        - E=mc | E=mc^2
        + E=c^2m | E=mc^2
        + y=3x-1 | 3x-y=1
        + 2x-3y=6 | 4x-6y=12
        - 2x-3y=6 | 4x-6y=13
        + x^2+y^2=25 | y^2=25-x^2
        - x^2+y^2=25 | x^2+y^2=5
        - x^2-y^2=25 | x^2+y^2=25
        + y=\frac{1}{x} | xy=1
        - |x|=-1 | |x|=-2
        - e^x=0 | e^x=-1
        - \ln x = 2 | \ln x = 3
        + \ln x=2 | 2=\ln x
        - 0=0 | x=x+0
        + \frac{x^2}{4}+\frac{y^2}{9}=1 | 9x^2+4y^2=36
        - \frac{x^2}{9}+\frac{y^2}{4}=1 | 9x^2+4y^2=36
        - x=3y | y=3x
        + x=\frac{y}{3} | y=3x
        - x^2=9 | x=3
        - 2x=10 | x=5
        - x^2-4=0 | 0
        - x>3 | x<3
        - x\geq3 | x>3
        + 2<x | x>2
        + x+y\leq 5 | 5\geq x+y
        - x+y\leq 5 | x+y\geq 5
        + -x>-3 | x<3
        + 3x+2y\le 12 | 6x+4y\leq 24
        - 3x+2y\le 12 | 3x+2y<12
        - a=1,b=2 | a=2,b=1
        + b=1,a=2 | a=2,b=1
    """,
    "words": r"""
        - WE | EW
        - DOG | GOD
        - stop 12 | post 12
        - pots | stop
        - A to C | C to A
        - Team B | Team A
        - 7 east | 7 west
        - 20 m north | 20 m south
        - ABC | CAB
        - \text{left} | \text{felt}
        - \text{ACB} | \text{ABC}
        - type 1 | type 2
        - CO_2 | C_2O
        - 5 up | 5 down
        - Model A | Model B
        - \Delta | \delta
        - \Omega | \omega
        - p | P
        + xy | yx
        + 2ab | 2ba
        + ab+c | c+ba
        + \text{ABC} | ABC
        + no solution | No solution.
        + \text{no real solutions} | no real solutions
        + \textnormal{east} | east
        + \textsf{east} | \text{East}
        + \emph{blue} | blue
        + \mathbf{B} | B
        + \underline{12} | 12
    """,
    "units": r"""
        - 3\sqrt2\text{ km} | 3\sqrt2\text{ m}
        - 3\sqrt2\text{ m} | 3\sqrt2\text{ m}^2
        - 4\pi\text{ cm}^2 | 4\pi\text{ cm}^3
        - 10 cents | \$10
        - 10 euros | \$10
        - €10 | \$10
        - 7 lb | 7 kg
        - 7 oz | 7 g
        - 60 km/h | 60 mph
        - 3\text{ h} | 3\text{ min}
        - 5 ft | 5 yd
        - \frac34\text{ hour} | \frac34\text{ minutes}
        - 2\pi \text{ rad} | 2\pi \text{ degrees}
        - 45^\circ | 45\text{ rad}
        - 5\% | \$5
        - 90\text{ °C} | 90\text{ °F}
        + 7\text{ kg} | 7 kg
        + 7 kilograms | 7\text{ kg}
        + 7kg | 7\text{ kg}
        + 12 m/s | 12\ \text{m/s}
        + 12 \frac{\text{m}}{\text{s}} | 12
        + 9.8 m/s^2 | 9.8\text{ m/s}^2
        + 9.8\ \mathrm{m/s^2} | 9.8 m/s²
        + 3 N | 3\text{ N}
        + 3 newtons | 3\text{ N}
        + 6 V | 6
        + 6 Ω | 6\ \Omega
        + 2 W | 2\text{ watts}
        + 12 in | 12\text{ inches}
        + 12 inches | 12\text{ in}
        + 5 K | 5\text{ K}
        + 20\,\text{cm}^3 | 20 cm^3
        + 20 cubic centimeters | 20\text{ cm}^3
        + 100 km/hr | 100\text{ km/h}
        + 5 dollars | \$5
        + \$5.00 | 5
        + 5\text{ dollars} | \$5
        + 2\sqrt{3} cm | 2\sqrt{3}\text{ cm}
        + 2\sqrt{3} | 2\sqrt{3}\text{ cm}
        + 4\pi square inches | 4\pi
        + 4\pi \text{ square inches} | 4\pi\text{ in}^2
        + 30 degrees | 30^\circ
        + 30 deg | 30^{\circ}
        + 1/2 hour | \frac12\text{ hr}
        + 3 pounds | 3\text{ lbs}
        + £3 | 3 pounds
        - 3x | 3\text{ kg}
        - 3t | 3
        - 3a | 3
        - 3k | 3
        - 4\pi r | 4\pi
    """,
    "units of different sizes": r"""
        + 1 hour | 60 minutes
        + 1\text{ h} | 60\text{ min}
        + 60分钟 | 1小时
        + 1 m | 100 cm
        + 2000 mL | 2 L
        + 10 m/s | 36 km/h
        + 10000 cm^2 | 1 m^2
        + 1000\text{ L} | 1\text{ m}^3
        + 1000 kg/m^3 | 1 g/cm^3
        + 12 in | 1 ft
        + 16 oz | 1 lb
        + 24 hours | 1 day
        + 200\sqrt5\text{ cm} | 2\sqrt5\text{ m}
        + 30 minutes | \frac12\text{ hour}
        - 1 m/s | 1 km/h
        - 100 cm^2 | 1 m^2
        - 3600 | 1 h
        - 60 s | 1 h
        - 11 lb | 5 kg
        - 1.6 km | 1 mile
        - 365 days | 1 year
        - 500 cents | \$5
        - 20\sqrt5\text{ cm} | 2\sqrt5\text{ m}
        - 5 J | 5 W
        - 5秒 | 5分
    """,
    "tiny and nearly equal numbers": r"""
        - 1/2^{40} | 1/2^{41}
        - \frac{1}{50!} | \frac{1}{51!}
        - 10^{-20} | 10^{-21}
        - 10^{-20} | 0
        - 0 | 10^{-30}
        - e^{-50} | e^{-51}
        - 2^{-100} | 3^{-100}
        - \frac{1}{10^{15}} | \frac{2}{10^{15}}
        - 1.6\times10^{-19} | 1.7\times10^{-19}
        - 1 | 1-10^{-18}
        - 10^{20}+1 | 10^{20}
        - \frac{1}{\sqrt{10^{30}}} | \frac{2}{\sqrt{10^{30}}}
        + \frac{1}{2^{40}} | 2^{-40}
        + 10^{-20} | \frac{1}{10^{20}}
        + e^{-50} | \frac{1}{e^{50}}
        + \frac{1}{51\cdot50!} | \frac{1}{51!}
        - 0.999999999 | 1
        - 1.414 | \sqrt2
        - 3.1416 | \pi
        - 0.6667 | 2/3
    """,
    "Chinese": r"""
        + 7个 | 7
        + 7 个 | 7
        + 7人 | 7
        + 7只 | 7
        + 7本书 | 7
        + 7千米 | 7
        + 7 千克 | 7\text{ kg}
        + 7米 | 7\text{ m}
        - 7米 | 7\text{ cm}
        - 7元 | 7\text{ kg}
        + 3.14平方米 | 3.14
        + 3.14平方米 | 3.14\text{ m}^2
        - 3.14平方米 | 3.14\text{ m}^3
        + 45度 | 45^\circ
        + 45° | 45度
        + \frac{3}{4}米 | 3/4
        + 2\sqrt{3}厘米 | 2\sqrt{3}
        + 8和9 | 8, 9
        + 8或9 | 8,9
        + 8、9 | 8,9
        + 3小时 | 3
        + 3 小时 | 3\text{ hours}
        - 3小时 | 3\text{ minutes}
        + 答案是7 | 7
        + 答案：7 | 7
        + 答案为 7 | 7
        + 答：7个 | 7
        + 5万 | 50000
        + ７ | 7
        + （1，2） | (1,2)
        + x＝3 | 3
        - 7 | 8个
        - 8个 | 7
        - 负7 | 7
        - 3又1/2 | 3
        + 等腰三角形 | 等腰三角形
        - 等边三角形 | 等腰三角形
    """,
    "thousands": r"""
        - 1,00 | 1,000,000
        - 1,00 | 1,000
        + 1, 234 | 1,234
        + 1\,000\,000 | 1000000
        + 1{,}000{,}000 | 1000000
        + 1,\!000,\!000 | 1000000
        + 11,\! 111 | 11111
        + 12 345 | 12345
        + 12,345.6 | 12345.6
        + 1\ 000 | 1000
        - 1,00 | 100
        - 12,3 | 123
        + (1,000, 2) | (1000, 2)
    """,
    "complex numbers": r"""
        + 3-4*i | 3-4i
        + -4i+3 | 3-4i
        + 3-4I | 3-4i
        + 2*I | 2i
        + \frac{1+i}{2} | 0.5+0.5i
        + (1+i)^2 | 2i
        - 3+4i | 4+3i
        - 3+4i | 3+4
        - 4i | 4
        - -i | i
        + 1i | i
        + e^{i\pi} | -1
        - 7i | \sqrt{7}i
        + i\sqrt7 | \sqrt{7}i
    """,
    "unions and conditions": r"""
        + (-\infty,1)\cup(4,\infty) | x<1 \text{ or } x>4
        + x<1 or x>4 | (-\infty,1)\cup(4,\infty)
        + x < 1, x > 4 | (-\infty,1)\cup(4,\infty)
        + (-\infty,1) or (4,\infty) | (-\infty,1)\cup(4,\infty)
        + (-\infty,1) ∪ (4,∞) | (-\infty,1)\cup(4,\infty)
        + x>4 or x<1 | (-\infty,1)\cup(4,\infty)
        + x \le 1 \text{ or } x\ge 4 | (-\infty,1]\cup[4,\infty)
        - x<1 or x>4 | (-\infty,1]\cup[4,\infty)
        - x<1 and x>4 | (-\infty,1)\cup(5,\infty)
        + x>1 and x<4 | (1,4)
        + 1<x and x<4 | 1<x<4
        + x\ge1, x\le4 | [1,4]
        - x>1 or x<4 | (1,4)
        - x>1 and x<4 | [1,4]
        + x \neq 3 | (-\infty,3)\cup(3,\infty)
        + \mathbb{R}\setminus\{3\} | (-\infty,3)\cup(3,\infty)
        + x\ne 1, x\neq 2 | (-\infty,1)\cup(1,2)\cup(2,\infty)
        + x \in (-\infty,1)\cup(4,\infty) | (-\infty,1)\cup(4,\infty)
        + 4>x>1 | 1<x<4
        + \{x \mid 1<x<4\} | (1,4)
        - 1<y<4 | 1<x<4
        + [1,2]\cup\{5\} | \{5\}\cup[1,2]
        - (1,4] | [1,4)
        - (-\infty,1)\cup(3,\infty) | (-\infty,1)\cup(4,\infty)
        + -1 \le x < 2 | [-1,2)
        + [−1, 2) | [-1,2)
        + x\geq 0 | [0,\infty)
        + x>=0 | [0,+\infty)
        - x>0 | [0,\infty)
        + (-\infty, \infty) | \mathbb{R}
        + k<2 or k>3 | k<2 \text{ or } k>3
        - k<2 and k>3 | (-\infty,2)\cup(3,\infty)
        - k<2 \text{ and } k>3 | (-\infty,2)\cup(3,\infty)
        - k<2且k>3 | (-\infty,2)\cup(3,\infty)
        + k<2, k>3 | (-\infty,2)\cup(3,\infty)
        + (-\infty,2)\cup(3,\infty) | k<2 \text{ and } k>3
        + k>3 and k<2 | k<2 and k>3
        - k<1 and k>5 | k<2 and k>3
        + k≠1且k≠2 | k\neq1\text{ and }k\neq2
        - (2,\infty) | (-\infty,2)
    """,
    "names before an equals sign": r"""
        - x=x+1 | x+1
        - x^2=x | x
        - \frac{x^2}{9}+y^2=1 | 1
        - x^2+y^2=25 | 25
        - 3x+5=11 | 11
        - the value is not = 5 | 5
        + a+b=7 | 7
        + xy=7 | 7
        + f(x)=x^2 | y=x^2
        + y=x^2 | f(x)=x^2
        + g(x)=2x | 2x
        + f(x) = x+x^2 | f(x) = x^2+x
        + x=4 | 4
        + 4=x | 4
        + n = 4 | 4
        + \theta=\frac{\pi}{3} | \frac{\pi}{3}
        + a_n=2n-1 | 2n-1
        + S_n = n^2 | n^2
        + P(X=2)=\frac14 | 1/4
        + \angle ABC=40^\circ | 40^\circ
        + AB=5 | 5
        + |AB|=5 | 5
        + \cos A=\frac12 | \frac12
        + x+y=7 | 7
        + f^{-1}(x)=\frac{x-1}{2} | \frac{x-1}{2}
        + \text{Area}=12 | 12
        + Area = 12 | 12
        + k = -\frac{1}{2} | -0.5
        - x=4 | y=4
        - f(x)=2x | g(x)=2x
        - f(x)=2x | y=3x
        - x=4 | 5
        - y=2x+1 | 2x+2
        + x=1/2=0.5 | 0.5
        + \frac{6}{4}=\frac{3}{2} | 3/2
        - 2+2=5 | 5
        + x = 3 \text{ and } y = 4 | (3,4)
        + y=4, x=3 | (3,4)
        - x=4, y=3 | (3,4)
        + (x, y) = (3, 4) | (3,4)
        + a=1, b=2, c=3 | (1,2,3)
        + \begin{cases} x=3\\ y=4\end{cases} | (3,4)
        + \begin{cases} x=3\\ y=4\end{cases} | x=3,y=4
        - \begin{cases} x=4\\ y=3\end{cases} | x=3,y=4
    """,
    "indices, signs, dots and dates": r"""
        + x=2, x=1 | x_1=1, x_2=2
        + x_1=1, x_2=2 | x=1 or x=2
        - x=1, x=3 | x_1=1, x_2=2
        - x=1 | x_1=1, x_2=2
        - a_1=2, a_2=1 | a_1=1, a_2=2
        + 1+\sqrt5, 1-\sqrt5, -2 | \{1\pm\sqrt5, -2\}
        - 1+\sqrt5, -2 | \{1\pm\sqrt5, -2\}
        + -2, -1, 1, 2 | \pm1, \pm2
        + \frac13 | 0.\dot{3}
        + \frac{4}{33} | 0.\dot{1}\dot{2}
        + \frac{41}{333} | 0.\dot{1}2\dot{3}
        - 3.14... | 3.14
        + n ≡ 1 (mod 3) | n\equiv 1\pmod 3
        + n \equiv 1 \pmod{3} | n \equiv 1 (\text{mod } 3)
        - n \equiv 1 \pmod{4} | n\equiv 1\pmod 3
        - n \equiv 2 \pmod{3} | n\equiv 1\pmod 3
        + \varphi | \phi
        + △ABC | \triangle ABC
        - △ACB | \triangle ABC
        + x>2 | \{x: x\in\mathbb{R}, x>2\}
        - 5 is wrong | 5
        - 5 \text{ is wrong} | 5
        - 2018 | 2020-01-01
    """,
    "vectors and matrices": r"""
        - (1,2] | \begin{bmatrix}1\\2\end{bmatrix}
        - \{1,2\} | \begin{bmatrix}1\\2\end{bmatrix}
        + \begin{pmatrix}1\\2\end{pmatrix} | (1,2)
        + \begin{bmatrix}1\\2\end{bmatrix} | \begin{pmatrix}1\\2\end{pmatrix}
        + \langle1,2\rangle | \begin{pmatrix}1\\2\end{pmatrix}
        + (1,2) | \begin{pmatrix}1\\2\end{pmatrix}
        + [1,2] | \begin{pmatrix}1\\2\end{pmatrix}
        + \left\langle 1,2\right\rangle | (1,2)
        + ⟨1, 2⟩ | \langle 1,2\rangle
        + \begin{pmatrix}\frac12\\-2\end{pmatrix} | \begin{pmatrix}0.5\\-2\end{pmatrix}
        + \left(\begin{array}{c}1\\2\end{array}\right) | \begin{pmatrix}1\\2\end{pmatrix}
        + \begin{pmatrix}1&0\\0&1\end{pmatrix} | \begin{bmatrix}1 & 0 \\ 0 & 1\end{bmatrix}
        + [[1,0],[0,1]] | \begin{pmatrix}1&0\\0&1\end{pmatrix}
        + A = \begin{pmatrix}1&0\\0&1\end{pmatrix} | \begin{pmatrix}1&0\\0&1\end{pmatrix}
        - \begin{pmatrix}2\\1\end{pmatrix} | \begin{pmatrix}1\\2\end{pmatrix}
        - \begin{pmatrix}1&2\end{pmatrix} | \begin{pmatrix}1\\2\end{pmatrix}
        - \begin{pmatrix}1&0\\0&2\end{pmatrix} | \begin{pmatrix}1&0\\0&1\end{pmatrix}
        - [[1,0],[0,2]] | \begin{pmatrix}1&0\\0&1\end{pmatrix}
        - \langle 1,2\rangle | (2,1)
        - (1,2,3) | \begin{pmatrix}1\\2\end{pmatrix}
        + A(3,-2) | (3,-2)
        + P = (3,-2) | (3,-2)
        + (3.0,-2) | (3,-2)
        + ( 3 , -2 ) | (3,-2)
        - (3,2) | (3,-2)
        - \{3,-2\} | (3,-2)
        - 3,-2 | (3,-2)
    """,
    "lists of pairs": r"""
        + \{(1,2),(3,4)\} | (1,2),(3,4)
        + (3,4),(1,2) | \{(1,2),(3,4)\}
        + (1,2) and (3,4) | (1,2),(3,4)
        + (1,2); (3,4) | (1,2),(3,4)
        + \left\{(1,2),(3,4)\right\} | (1,2),(3,4)
        + (1,2) \text{ or } (3,4) | (1,2), (3,4)
        - (2,1),(3,4) | (1,2),(3,4)
        - (1,2) | (1,2),(3,4)
        - (1,2),(3,4),(5,6) | (1,2),(3,4)
        - \{1,2,3,4\} | (1,2),(3,4)
    """,
    "times of the day": r"""
        + 4:05 PM | 4:05 p.m.
        + 16:05 | 4:05 PM
        + 4:05\text{ p.m.} | 4:05 PM
        + 4 PM | 4:00 p.m.
        + 07:30 | 7:30
        + 7:30 a.m. | 7:30 AM
        + 12:00 PM | 12:00 p.m.
        - 4:05 AM | 4:05 PM
        - 4:06 PM | 4:05 PM
        - 5:04 | 4:05
        - 16:05 | 4:05 AM
        - 7:30 | 19:30
        + 下午4点 | 4:00 PM
    """,
    "ratios": r"""
        + 2 to 5 | 2:5
        + 2 : 5 | 2:5
        + 2:5 | 2\text{ to }5
        + 4:10 | 2:5
        + \frac25 | 2:5
        - 5:2 | 2:5
        - 2:3 | 2:5
        - 5 to 2 | 2:5
        - 1:2:3 | 1:3:2
        + 1 : 2 : 3 | 1:2:3
    """,
    "lead-ins": r"""
        + The answer is 12 | 12
        + \text{The answer is }12 | 12
        + Answer: 12 | 12
        + the final answer is $12$. | 12
        + So the answer is 12. | 12
        + \text{Answer: }12 | 12
        - The answer is 13 | 12
    """,
    "notation and values": r"""
        + \dfrac{1}{2} | 1/2
        + \frac{\sqrt3}2 | \frac{\sqrt{3}}{2}
        + \frac{1}{2}\sqrt3 | \frac{\sqrt{3}}{2}
        + (21)/(2)\pi | \frac{21\pi}{2}
        + \sqrt[3]{8} | 2
        + 2^{1/2} | \sqrt2
        + \tan 45° | 1
        + \sin 30^\circ | 0.5
        + \sin\frac{\pi}{6} | \frac12
        + \log_3 9 | 2
        + \log_{10} 100 | 2
        + \binom{6}{2} | 15
        + 6! | 720
        + \frac{5!}{3!} | 20
        + {5 \choose 2} | 10
        + -(x-1) | 1-x
        + x(x-1) | x^2-x
        + n(n+1)/2 | \frac{n(n+1)}{2}
        + 2\cdot 3^n | 3^n\cdot2
        - 2^n | n^2
        - 2x^2 | (2x)^2
        - -x^2 | (-x)^2
        - \sqrt{x+1} | \sqrt{x}+1
        - \frac{x+1}{2} | x+\frac12
        - \sin 2x | 2\sin x
        - \sin x^2 | \sin^2 x
        - 3\sqrt5 | 5\sqrt3
        - \sqrt[3]{5} | \sqrt5
        - \frac{2}{3} | \frac{3}{2}
        - -\frac{2}{3} | \frac{2}{3}
        - 2^{10} | 10^2
        + \sqrt{50} | 5\sqrt{2}
        + \frac{\pi}{4} | π/4
        + 100\pi | 100π
        + \alpha | α
        + 2α+β | β+2\alpha
        - α | β
        + \emptyset | \varnothing
        + \{\} | \emptyset
        + 2k\pi | 2\pi k
        + \frac{\pi}{2}+k\pi | k\pi+\frac{\pi}{2}
        + x=\frac{\pi}{2}+k\pi | \frac{\pi}{2}+k\pi
        + 3\ | 3
        + 12\% | 12
        + 12\% | 0.12
        + 0.12 | 12\%
        - 1.2 | 12\%
        + $12$ | 12
        + \(12\) | 12
        + ~12 | 12
        + "12" | 12
        + `12` | 12
        + *12* | 12
        + 5,\text{ }6 | 5,6
        + 5 \text{ and } 6 | 5,6
        + \{5,6\} | 6,5
        - 5,6,7 | 5,6
        - 5 | 5,6
        + 1,2,3 | 3,2,1
        + 2 | 2=x
        + 2 | 2 = y
        + 11,\! 111,\! 111,\! 100 | 11111111100
        + 1+2i | i(2-i)
        + 20:34 | 20:34:00
        + 20:34 | 08:34 \text{P.M.}
        + \begin{matrix} \frac12 \\ 1 \end{matrix} | [0.5, 1]
        + f(x) = 2x + 3 | y = 2x + 3
        - 4210_5 | 4210_7
        + 4210 base 7 | 4210_7
        + 144 m^3 | 144
        + 144 m³ | 144
        + 5 m | 5\text{ m}
        + 5m | 5\text{ m}
        + 10 m/s | 10 \text{ m/s}
        + 10 m/s | 10
        + 5 L | 5\text{ L}
        + 5 g | 5 \text{ g}
        + 5 N | 5
        + 12 gm | 12 \text{ gm}
        + 5 in. | 5 \text{ inches}
        + 5 lb | 5 pounds
        + 5 ms | 5\text{ ms}
        + 20 mL | 20\text{ mL}
        + 9 am | 9\text{ a.m.}
        + 9:00 AM | 9\text{ a.m.}
        + (21)/(2)\pi | \frac{21}{2}\pi
        + 3/2 + 3/2 i | \frac{3}{2} + \frac{3}{2} i
        + 3+4*i | 3+4i
        + 3 + 4*I | 3+4i
        + i*3 | 3i
        + \langle 1, 3 \rangle | \begin{pmatrix} 1 \\ 3 \end{pmatrix}
        + \langle 1,3\rangle | (1,3)
        + P(1,3) | (1,3)
        + \{(1,3),(2,4)\} | (1,3),(2,4)
        + (-\infty,2)\text{ or }(3,\infty) | (-\infty, 2) \cup (3, \infty)
        + x<2 or x>3 | (-\infty, 2) \cup (3, \infty)
        + x \geq -2 \text{ and } x \leq 7 | [-2,7]
        + [-2;7] | [-2,7]
        + f(x) = 2x+3 | y = 2x+3
        + 5 | 5=x
        + \text{The answer is } 5 | 5
        + The answer is 5 | 5
        - 5 cents | \$5
        + 5 USD | \$5
        + Rs. 5 | 5
        + \text{Rs. }5 | 5
        + 3:30 p.m. | 3:30 PM
        + 3 to 4 | 3:4
        + 10 | \binom52
        + \log_2 8 | 3
        + \cos 60^\circ | \frac12
        + \tan 45^\circ | 1
        + 5个 | 5
        + 5厘米 | 5
        + 5和6 | 5,6
        + 60度 | 60
        + 5元 | 5
        + $5$ 个 | 5
        + 12.56平方厘米 | 12.56
        + \frac{1}{2}米 | \frac12
        - x^2+50=0 | x^2+121=0
        - x^2+x+1=0 | x^2+2=0
        - x^2-2x+5=0 | x^2+1=0
        - 0=1 | x^2+1=0
        - x=x+1 | x^2+1=0
        - I=2t | I=3t
        - I=2\cos t | I=3\cos t
        - I=2x | I=3x
        - 1=1 | \log_2(32)=5
        - 2+2=4 | \log_2(32)=5
        - 1=1 | 2+2=4
        - 1<2 | 2<3
        - x^2=-1 | x^2=-4
        - e^x=-1 | e^x=-2
        - \sqrt{x}=-1 | \sqrt{x}=-2
        - room 12 | moor 12
        - HT | TH
        - A to B | B to A
        - \sigma | \Sigma
        - 5 north | 5 thorn
        - 30 degrees north | 30 degrees south
        - 2\sqrt3\text{ cm} | 2\sqrt3\text{ m}
    """,
    "money, units and senses": r"""
        + a:b=2:3 | 2:3
        + x:y:z = 1:2:3 | 1:2:3
        + 3 hours | 3\text{ hr}
        + 25 square meters | 25\text{ m}^2
        + 25 sq m | 25 m^2
        + 25 m2 | 25 m^2
        + 5 meters per second | 5\text{ m/s}
        + 5\text{ m s}^{-1} | 5\text{ m/s}
        + 5 m·s⁻¹ | 5 m/s
        + 5 \frac{\text{km}}{\text{h}} | 5\text{ km/h}
        + 300\text{ cm}^3 | 300 cubic cm
        + 300 cc | 300\text{ mL}
        + 10 % | 10\%
        + 10 per cent | 10\%
        + 1/10 | 10\%
        + \text{\$}15 | 15
        + \textdollar 15 | 15
        + 15 dollars | 15\text{ dollars}
        + 15¢ | 15 cents
        - 15¢ | \$15
        - \$15 | 15 cents
        - 0.15 | 15 cents
        + €15 | 15 euros
        + 15 EUR | €15
        + ¥15 | 15 yuan
        + ¥15 | 15 yen
        - 15 yen | 15 yuan
        + ₹15 | Rs 15
        + Rs.15 | 15
        - 7 minutes | 7 months
        - 7 min | 7 m
        - 7 mm | 7 m
        - 7 MB | 7 kg
        + 7 grams | 7g
        + 7g | 7\text{ g}
        - 7g | 7
        - 7m | 7
        + 7 m | 7
        - 7s | 7
        - 7x | 7 m
        + \frac{1}{2} \text{ mile} | 0.5 mi
        + 6\pi\ \text{cm} | 6\pi
        + 6\pi\,cm | 6\pi
        + 6\pi cm | 6\pi
        + 6\pi\text{ cm} | 6\pi\text{ centimeters}
        - 6\pi\text{ cm} | 6\pi\text{ cm}^2
        + 3\sqrt{2} units | 3\sqrt{2}
        + 3\sqrt{2}\text{ units} | 3\sqrt{2}
        + 12 sq. units | 12
        + 12\ \text{square units} | 12
        + 12 \, \text{units}^2 | 12
        + 45^{\circ} | 45
        + 45°C | 45
        + 45 ℃ | 45 °C
        + 30^\circ\text{N} | 30^\circ\text{N}
        - 30^\circ\text{N} | 30^\circ\text{S}
        - 30°E | 30°W
        - 30 degrees N | 30 degrees S
        + N 30° E | N 30° E
        - N 30° W | N 30° E
        - 5 right | 5 left
        - 5 clockwise | 5 counterclockwise
        - profit of 5 | loss of 5
        - 5 profit | 5 loss
        - 100 BC | 100 AD
        - 100 BCE | 100 CE
        + 100 BC | 100 BC
    """,
    "words and symbols": r"""
        - room 21 | room 12
        - Room A12 | Room A21
        - gate 5 | door 5
        - May 5 | June 5
        - Tuesday | Thursday
        - Q1 | Q2
        - AB | BA
        - \overline{AB} | \overline{BC}
        - \triangle ABC | \triangle ABD
        - \angle A | \angle B
        - no | on
        - is | si
        + xz | zx
        - dna | and
        - \text{race} | \text{care}
        - stressed | desserts
        - \mathrm{NaCl} | \mathrm{ClNa}
        - CH_4 | C_4H
        - \mathbb{N} | \mathbb{Z}
        - \Gamma | \gamma
        - \Phi | \phi
        - \Pi | \pi
        - X | x
        - B | b
        - n | N
        + \ell | \ell
        - l | I
        - \epsilon | e
    """,
    "numbers that are nearly equal": r"""
        - 2^{64} | 2^{63}
        - 10^{100} | 10^{101}
        - 10^{100}+1 | 10^{100}
        - \frac{1}{10^{100}} | \frac{1}{10^{101}}
        - 100! | 101!
        - \frac{1}{100!} | 0
        - 5^{-30} | 5^{-31}
        - \left(\frac{1}{2}\right)^{60} | \left(\frac{1}{2}\right)^{61}
        - 1-\frac{1}{2^{60}} | 1
        - \pi-3.14159265358979 | 0
        - \sqrt{2}-1.41421356237 | 0
        - e^{-40}+1 | 1
        - 1.0000000001 | 1
        - \frac{10^{20}+1}{10^{20}} | 1
        - \sqrt{10^{40}+1} | 10^{20}
        + \sqrt{10^{40}} | 10^{20}
        + 1-\frac{1}{2^{60}} | \frac{2^{60}-1}{2^{60}}
    """,
    "equations and conditions": r"""
        - x^2+4=0 | x^2+9=0
        - x^2+x+1=0 | x^2+x+2=0
        - x^2=-9 | x^2=-4
        - |x|=-3 | |x|=-5
        - \sin x=2 | \sin x=3
        - \sqrt{x}=-5 | \sqrt{x}=-7
        - x=x+2 | x=x+1
        - 0=5 | 0=7
        - 3=3 | 2=2
        - 3=4 | 2=5
        - 3>2 | 5>1
        - 5<1 | 2<1
        - 1+1=2 | 2+2=4
        - x-x=0 | y-y=0
        - a=a | b=b
        - \log_3 9=2 | \log_2 4=2
        + \log_2 4=2 | \log_2 4 = 2
        - x^2+y^2=-1 | x^2+y^2=-4
        - 2^x=-1 | 3^x=-2
        - x^4+1=0 | x^4+2=0
        - I=4t | I=5t
        - E=3x | E=2x
        - S=3x | S=2x
        - O=3x | O=2x
        - Q=5 | Q=6
        - i=2t | i=3t
        - I=2\sin t | I=3\sin t
        - e=2t | e=3t
        - N=2^t | N=3^t
        - P=2e^{3t} | P=2e^{2t}
        - \pi=3 | \pi=4
        - A=\frac12bh | A=bh
        + A=\frac{bh}{2} | A=\frac12bh
        + 2A=bh | A=\frac12bh
        - a^2+b^2=c^2 | a^2-b^2=c^2
        + c^2-a^2=b^2 | a^2+b^2=c^2
        - y=x^2+1 | y=x^2-1
        - y=\sin(x+1) | y=\sin(x)+1
        - x=2y | y=2x
        - y > 2x | y < 2x
        - y \ge 2x | y > 2x
        + 2x < y | y > 2x
        - x \neq 2 | x = 2
        - x \neq 2 | x \neq 3
        + 2 \neq x | x \neq 2
        - x<2 | x<-2
        - x<y<z | x<z<y
        + z>y>x | x<y<z
        - x \equiv 1 \pmod 3 | x \equiv 2 \pmod 3
        + x \equiv 1 \pmod 3 | x \equiv 1 \pmod{3}
        - 3 \mid n | 3 \nmid n
    """,
    "points, vectors and pairs": r"""
        + P(1,2) | (1,2)
        + \text{Point }P(1,2) | (1,2)
        + (1,2,3) | \langle 1,2,3\rangle
        + \begin{pmatrix} 1 & 2 & 3\end{pmatrix} | (1,2,3)
        + \begin{bmatrix}1\\2\\3\end{bmatrix} | \langle 1,2,3\rangle
        + \vec{v} = \begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix}1\\2\end{pmatrix}
        + \mathbf{v}=\langle1,2\rangle | \langle1,2\rangle
        + [1, 2] | \begin{bmatrix}1\\2\end{bmatrix}
        + \left[\begin{array}{cc}1&2\\3&4\end{array}\right] | \begin{pmatrix}1&2\\3&4\end{pmatrix}
        + \begin{pmatrix} 1 & 2 \\ 3 & 4 \\ \end{pmatrix} | \begin{pmatrix}1&2\\3&4\end{pmatrix}
        - \begin{pmatrix}1&3\\2&4\end{pmatrix} | \begin{pmatrix}1&2\\3&4\end{pmatrix}
        - \begin{vmatrix}1&2\\3&4\end{vmatrix} | \begin{pmatrix}1&2\\3&4\end{pmatrix}
        + \begin{pmatrix}\frac{2}{4}\\1\end{pmatrix} | \begin{pmatrix}\frac12\\1\end{pmatrix}
        + (1, 2) \text{ and } (3, 4) | \{(3,4),(1,2)\}
        + (x,y)=(1,2) \text{ or } (3,4) | (1,2),(3,4)
        + (x,y)=(1,2),(x,y)=(3,4) | (1,2),(3,4)
        + (1,2),\ (3,4) | (1,2),(3,4)
        + \{ (1, 2) , (3, 4) \} | (1,2),(3,4)
        + {(1,2),(3,4)} | (1,2),(3,4)
    """,
    "near misses": r"""
        - 2\sqrt{3} | 3\sqrt{2}
        - (3,-1) | (-1,3)
        - 3-2i | 2-3i
        - [0,1] | (0,1)
        - 1.5 \times 10^4 | 1.5 \times 10^{-4}
        - x^3 | 3x
        - \frac{5}{6} | \frac{6}{5}
        - -7 | 7
        - 127 | 128
        - 1,234 | 1,243
        - 12.5 | 125
        - \frac{\pi}{3} | \frac{\pi}{6}
        - 2\pi | \pi^2
        - \sqrt[3]{4} | \sqrt{4}
        - \log_3 5 | \log_5 3
        - 3^{2n} | 3^{n+2}
        - 3^{2n} | 6^n
        + 9^n | 3^{2n}
        - a_{n+1} | a_n+1
        - x_{12} | x_1 2
        - f(x) | f(y)
        - f(2x) | 2f(x)
        + f(x)+g(x) | g(x)+f(x)
        - (a,b) | (b,a)
        - \{a,b\} | (a,b)
        + \{a,b\} | \{b,a\}
        - x\in[0,1) | [0,1]
        - (-\infty,-2)\cup(2,\infty) | (-2,2)
        - |x|>2 | |x|<2
        - x>2 | x>-2
        - 0 < x \le 4 | 0 \le x < 4
        - 5:12 PM | 5:21 PM
        - 17:05 | 5:05 AM
        + 17:05 | 5:05 PM
        - 3:2 | 2:3
        - 2:3:4 | 2:4:3
        - 75\% | 0.0075
        - 7.5\% | 75\%
        + 3/4 | 75\%
        - 12 km | 12 miles
        - 12\text{ m} | 12\text{ m}^2
        - 9 m/s | 9 m/s^2
        - 60 km/h | 60 km
        - 10 kg | 10 mg
        - \$3.50 | €3.50
        - 3\frac{1}{4} | \frac{13}{3}
        - 3 \frac14 | \frac34
        - 10_2 | 10_3
        - 777_8 | 777_9
        - \begin{pmatrix}1\\-2\end{pmatrix} | \begin{pmatrix}-1\\2\end{pmatrix}
        - \begin{pmatrix}a&b\\c&d\end{pmatrix} | \begin{pmatrix}a&c\\b&d\end{pmatrix}
        - 8! | 7!
        - \binom{8}{3} | \binom{8}{4}
        + \binom{8}{3} | \binom{8}{5}
        - n^2-n | n^2+n
        - 2^{n}-1 | 2^{n-1}
        - -\sqrt{5} | \sqrt{5}
        - \sqrt{-5} | \sqrt{5}
        - 5+\sqrt{3} | 5-\sqrt{3}
        - \pm\sqrt{3} | \sqrt{3}
        - x=\pm2 | x=2
        - 1<x<5 | 1<x
        - \text{Tuesday} | \text{Wednesday}
        - \text{yes} | \text{no}
        - even | odd
        - \text{increasing} | \text{decreasing}
        - x^2-5x+6 | (x-2)(x+3)
        + x^2-5x+6 | (x-2)(x-3)
        - (x-2)^2+(y+1)^2=16 | (x-2)^2+(y+1)^2=4
        - y=-2x+3 | y=2x-3
        - \frac{x-1}{2}=\frac{y+1}{3} | \frac{x+1}{2}=\frac{y-1}{3}
        + \frac{x-1}{2}=\frac{y+1}{3} | 3(x-1)=2(y+1)
        - 4,-4 | 4
        - 1,2,3 | 1,2
        - 1,2 | 1,3
        - 1.0001 | 1
        - 0.3 | \frac{1}{3}
        - 2.71828 | e
        + \frac{e}{2} | 0.5e
        - 10^{-8} | 0
        - 3.0 \times 10^8 | 2.998\times10^8
        - 99.99\% | 100\%
        + 东 | 东
        - 东 | 西
        - 甲 | 乙
        - 5个 | 6个
        - 3厘米 | 3米
        - 上午8点 | 下午8点
        + 8点30分 | 8:30
        - 45分钟 | 45秒
        + 大于5 | 大于5
        - 大于5 | 小于5
        - 5元 | 5角
        - 三角形 | 四边形
        + 是 | 是
        - 7折 | 7
    """,
}

# The other kinds.
OTHERS = {
    "set": r"""
        + A & C | A, C
        + A C | A, C
        - A & B | A, C
        + [1, 2, 3] | 3, 2, 1
        - [1, 2] | 1, 2
        - [1, 2, 3) | 1, 2, 3
        + A and C | A, C
        + (A, C) | A, C
        + [A,C] | AC
        + (A),(C) | A, C
        + (A)(C) | AC
        + (A，C) | A, C
        + {A,C} | A, C
        + A、C | A, C
        - (A)(B) | A, C
        - [A] | A, C
        - [A,B,C] | A, C
        + 3,000, 4,000 | 3000, 4000
        + 3,000 and 4,000 | 3000, 4000
        - 3,000 | 3, 0
        + x=3 or x=-3 | \pm3
        + 3 和 4 | 3, 4
        + [A, C] | A, C
        + (A)(C) | A, C
        + 1,000, 2,000 | 1000, 2000
    """,
    "number": r"""
        + 7个 | 7
        + 7头牛 | 7
        + 7台 | 7
        + 7元 | 7
        + ￥7 | 7元
        + 7毫升 | 7 mL
        + 7升 | 7 liters
        + 7天 | 7 days
        + 7公斤 | 7 kg
        + 7平方厘米 | 7 cm^2
        + 7 ₩ | 7원
        - 7天 | 7 weeks
        - 7公里 | 7米
        - 7美元 | 7元
        - 7 yen | 7 yuan
        - 7 pounds | $7
        - 7 pounds | 7 g
        + 7 pounds | 7 lb
        + 7 pounds | £7
        + 7k | 7000
        + $7K | 7000
        + $7M | 7000000
        - 7k | 7
        - 7 km north | 7 km south
        - 7 red | 7 blue
        + 7,000元 | 7000
        + 7； | 7
        + 大约7 | 大约7
        + 答案是7。 | 7
        + The answer is 7 apples | 7
        + 7 students | 7 people
        - 7 gain | 7 loss
        + 1.5亿 | 150000000
        - 5 pounds | 5 kg
        + $5k | 5000
        + 5k | 5000
        + 5; | 5
        + 5, | 5
        + 5个 | 5
        + 5元 | 5
        + 5公里 | 5
        + 5厘米 | 5
        + 5岁 | 5
        + 5个苹果 | 5
        + 5円 | 5
        + 5원 | 5
        - 5 is incorrect | 5
    """,
    "yes_no": r"""
        + 不是的 | no
        + 不存在 | no
        + 存在 | yes
        - Yes; the answer is no | yes
        + 是的 | yes
        + 对的 | yes
        + 正确。 | yes
        + 不是 | no
        + 不对 | no
        + 没有 | no
        + × | no
        + ✓ | yes
        + Yes, they are. | yes
        + Yes it does | yes
        + No it isn't | no
        + No they are not equal | no
        + No, there are not. | no
        + No\nbecause | no
        + True | yes
        + 对，因为它们相等 | yes
        + The answer is yes | yes
        + Correct | yes
        - Incorrect | yes
        - 不对 | yes
        - 不是 | yes
        - 对 | no
        - yes, no | yes
        - No one knows | no
        - Yes or no | yes
        - 是不是 | yes
        - Yes it is? no | yes
        + 对 | yes
        + 错 | no
        + 错误 | no
        + 否 | no
        + √ | yes
        + 不正确 | no
        + Yes it is | yes
        + No there is not | no
        + Yes they are parallel | yes
    """,
    "text": r"""
        + "Paris" | Paris
        + `left` | left
        + *left* | left
        + “left” | left
        + 「left」 | left
        + 'left' | left
        + __left__ | left
        + ***left*** | left
        + \textnormal{left} | left
        + \emph{left} | left
        + left, | left
        - "left | left
        - left or right | left
        - left right | left
        - not left | left
    """,
}

# The choices of these are BANKS: river, bank, a boat, The Sea.
CHOICES = r"""
    + \textbf{(B)} | B
    + \textbf{(B)}\ bank | B
    + \text{(B) bank} | B
    + \mathrm{(B)} | B
    + \textbf{B.} | B
    + \textnormal{B} | B
    + \boxed{\textbf{(B)}} | B
    + B、bank | B
    + B项 | B
    + 选项B | B
    + 选B | B
    + 故选B | B
    + 答案：B | B
    + 答案是B | B
    + (B)项 | B
    + option B | B
    + Option (B) | B
    + choice B | B
    + The answer is B | B
    + B, because money | B
    + B because money | B
    + B since money | B
    + {B} | B
    + "B" | B
    + `B` | B
    + B; | B
    + B\n\nBecause | B
    + B，因为钱 | B
    + $\textbf{(B)}\ \text{bank}$ | B
    + \textbf{(B)} \text{bank} | B
    - \textbf{(C)}\ bank | B
    - \textbf{(B)}\ river | B
    - C项 | B
    - 选项C | B
    - B or C | B
    - B, C | B
    - B、C | B
    - B and C | B
    - option C | B
    - not B | B
    - A B | B
    - B because of A or C, so C | C
    - Bread | B
    - BC | B
    - 选BC | B
    - A because B | B
    - A. because it is B | B
    + [B] | B
"""


def rows(table: str, *, newlines: bool = False) -> list[tuple[str, str, bool]]:
    r"""Return the response, the reference, and whether it is right, of each line; with `newlines` \n is a new line."""
    found = [re.fullmatch(r"([+-]) (.*?) \| (.*)", line.strip()) for line in table.strip().splitlines()]
    assert all(found)
    return [(row[2].replace(r"\n", "\n") if newlines else row[2], row[3], row[1] == "+") for row in found if row]
